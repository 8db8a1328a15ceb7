from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from sensorium.core import ConfigError
from sensorium.modalities.spectrogram import LogMel, _mel, mel_filters


def test_mel_scale_is_slaneys():
    # librosa.mel_frequencies(n_mels=40, fmax=11025), from its documentation
    edges = [0.0, 85.317, 170.635, 938.49, 1024.856, 1119.114, 2945.799, 7754.107, 11025.0]
    places = [0, 1, 2, 11, 12, 13, 24, 35, 39]
    step = _mel(11_025.0) / 39
    for hertz, place in zip(edges, places, strict=True):
        assert _mel(hertz) == pytest.approx(place * step, abs=1e-3)


def test_filters_are_whispers():
    filters = mel_filters(rate=16_000, window=400, mels=80, low=0.0, high=8_000.0)
    assert filters.shape == (201, 80)
    assert filters[1, 0].item() == pytest.approx(0.02486259, abs=1e-7)  # mel_filters.npz of openai/whisper
    assert filters[0, 0] == filters[2, 0] == 0


def test_filters_have_equal_area():
    filters = mel_filters(rate=16_000, window=4_096, mels=64, low=0.0, high=8_000.0)
    area = filters.sum(0) * 16_000 / 4_096
    assert (area - 1).abs().max() < 0.02


def test_a_band_between_spectral_lines_is_refused():
    with pytest.raises(ConfigError, match=r"mel bands are narrower than the 31\.2 Hz"):
        mel_filters(rate=16_000, window=512, mels=256, low=0.0, high=8_000.0)


def test_a_tone_lights_its_band_in_every_frame():
    log_mel = LogMel(rate=16_000, window=512, hop=256, mels=64, low=0.0, high=8_000.0)
    samples = torch.sin(2 * math.pi * 2_000 * torch.arange(16_000) / 16_000)
    values = log_mel(samples)
    assert values.shape == (63, 64)
    centres = torch.linspace(0, _mel(8_000.0), 66)[1:-1]
    band = int((centres - _mel(2_000.0)).abs().argmin())
    assert (values[1:-1].argmax(1) == band).all()
    quieter = log_mel(0.1 * samples)
    assert (values - quieter)[1:-1, band].sub(math.log(100)).abs().max() < 1e-3  # loudness is kept


def test_equals_the_definition():
    log_mel = LogMel(rate=8_000, window=200, hop=80, mels=20, low=100.0, high=4_000.0)
    samples = torch.randn(1_000, generator=torch.Generator().manual_seed(0))
    stft = torch.stft(
        samples, 200, 80, window=torch.hann_window(200), center=True, pad_mode="constant", return_complex=True
    )
    power = stft.abs().square().T[:13]
    filters = mel_filters(rate=8_000, window=200, mels=20, low=100.0, high=4_000.0).float()
    expected = (power @ filters + 1e-6).log()
    assert torch.allclose(log_mel(samples), expected, atol=1e-4)


@pytest.mark.parametrize("length", [1, 255, 256, 257, 511, 5_000])
def test_number_of_frames(length):
    for hop in (128, 256, 512):
        log_mel = LogMel(rate=16_000, window=512, hop=hop, mels=40, low=0.0, high=8_000.0)
        assert log_mel(torch.zeros(length)).shape == (math.ceil(length / hop), 40)


@pytest.mark.parametrize(
    ("scale", "equal_area"), [("htk", False), ("htk", True), ("slaney", False), ("slaney", True)]
)
def test_filters_are_those_of_transformers(scale, equal_area):
    expected = mel_filter_bank(
        513, 64, 50.0, 14_000.0, 48_000, norm="slaney" if equal_area else None, mel_scale=scale
    )
    found = mel_filters(
        rate=48_000, window=1_024, mels=64, low=50.0, high=14_000.0, scale=scale, equal_area=equal_area
    )
    assert (found - torch.from_numpy(expected)).abs().max() < 1e-12


@pytest.mark.parametrize("length", [1, 7, 150, 999, 1_000, 1_001])
def test_every_setting_equals_the_definition(length):
    samples = torch.randn(length, generator=torch.Generator().manual_seed(0))
    settings = {"rate": 8_000, "window": 200, "hop": 80, "mels": 20, "low": 100.0, "high": 4_000.0}
    common = {"edges": "reflect", "last_frame": True, "double": True, "floor": 1e-10}
    power = spectrogram(
        samples.numpy(), window_function(200, "hann"), 200, 80, power=2.0,
        mel_filters=mel_filters(**{k: v for k, v in settings.items() if k != "hop"}).numpy(),
    ).T  # fmt: skip
    for unit, factor in (("bel", 1), ("decibel", 10)):
        found = LogMel(**settings, **common, unit=unit)(samples)
        assert found.shape == (length // 80 + 1, 20)
        assert np.abs(found.numpy() - factor * np.log10(power)).max() < 1e-5
        close = LogMel(**settings, **common, unit=unit, span=1.5)(samples)
        assert torch.allclose(close, found.clamp_min(found.max() - 1.5), atol=1e-5)
    natural = LogMel(**settings, **common | {"floor": 0.5})(samples)
    assert np.abs(natural.numpy() - np.log(power + 0.5)).max() < 1e-5


@pytest.mark.parametrize(
    "wrong", [{"unit": "sone"}, {"edges": "wrap"}, {"scale": "bark"}, {"floor": 0.0}, {"span": -1.0}]
)
def test_wrong_settings(wrong):
    with pytest.raises(ConfigError, match=r"LogMel|mel scale"):
        LogMel(**{"rate": 8_000, "window": 200, "hop": 80, "mels": 20, "low": 100.0, "high": 4_000.0} | wrong)
