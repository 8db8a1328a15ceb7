from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoFeatureExtractor

from sensorium.core import CapabilityError, ConfigError, DataError, Spec
from sensorium.modalities import Audio, MelPicture, Sound, Waveform
from sensorium.modalities.public_sound import sound_config, sound_settings

WAV2VEC2 = {"feature_extractor_type": "Wav2Vec2FeatureExtractor"}
CLAP = {"feature_extractor_type": "ClapFeatureExtractor", "frequency_min": 50, "max_length_s": 1}
WHISPER = {"feature_extractor_type": "WhisperFeatureExtractor", "chunk_length": 2}
CONFIGS = {
    "wav2vec 2.0": WAV2VEC2 | {"return_attention_mask": True, "processor_class": "Wav2Vec2Processor"},
    "wav2vec 2.0, as it is": WAV2VEC2 | {"do_normalize": False, "sampling_rate": 8_000, "feature_size": 1},
    "clap, fused": CLAP | {"nb_max_samples": 48_000, "nb_frequency_bins": 513, "top_db": None, "n_fft": 1024},
    "clap, unfused": CLAP | {"truncation": "rand_trunc"},
    "clap, repeated": CLAP | {"padding": "repeat", "hop_length": 333, "fft_window_size": 900},
    "clap, silent": CLAP
    | {"padding": "pad", "truncation": "rand_trunc", "frequency_min": 0, "frequency_max": 20_000},
    "whisper": WHISPER,
    "whisper, 128": WHISPER | {"feature_size": 128, "nb_max_frames": 200, "n_samples": 32_000, "dither": 0.0},
}


def sound(seconds, rate, seed=0):
    """Noise that grows from silence."""
    count = round(seconds * rate)
    draw = np.random.default_rng(seed)
    return (0.1 * draw.standard_normal(count) * np.linspace(0, 1, count) ** 3 + 0.01).astype(np.float32)


def extractor(config):
    return getattr(transformers, config["feature_extractor_type"])(**config)


def theirs(config, samples):
    made = extractor(config)
    values = made(samples, sampling_rate=made.sampling_rate)
    if "input_values" in values:
        return np.asarray(values["input_values"])[0][:, None]
    found = np.asarray(values["input_features"])[0]
    return found.T[..., None] if found.ndim == 2 else found.transpose(1, 2, 0)


def ours(config, samples):
    modality = sound_settings(config).build()
    return modality.prepare(modality.load_value((samples, modality.sample_rate)))


@pytest.mark.parametrize("seconds", [0.06, 0.333, 0.7, 1.0, 1.004, 1.9])
@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_reference(name, seconds, monkeypatch):
    """What the reference draws for long recordings, it is made to draw as we do without a generator."""
    monkeypatch.setattr(np.random, "choice", lambda places: places[len(places) // 2])
    monkeypatch.setattr(np.random, "randint", lambda low, high: (low + high) // 2)
    config = CONFIGS[name]
    samples = sound(seconds, extractor(config).sampling_rate)
    found, expected = ours(config, samples), theirs(config, samples)
    assert found.dtype == torch.float32
    assert found.shape == expected.shape
    assert np.abs(found.numpy() - expected).max() < 1e-5


def test_loud_and_silent_recordings():
    for samples in (np.zeros(4_000, np.float32), np.full(4_000, 0.25, np.float32), 100 * sound(1, 16_000)):
        config = CONFIGS["wav2vec 2.0"]
        assert np.abs(ours(config, samples).numpy() - theirs(config, samples)).max() < 1e-5


def test_padding_of_a_batch_changes_nothing():
    """The reference too normalises over real samples only, if it is asked for their mask."""
    long, short = sound(1.0, 16_000), sound(0.4, 16_000, seed=1)
    made = extractor(CONFIGS["wav2vec 2.0"])
    batch = made([long, short], sampling_rate=16_000, padding=True, return_attention_mask=True)[
        "input_values"
    ]
    alone = ours(CONFIGS["wav2vec 2.0"], short)[:, 0]
    assert np.abs(alone.numpy() - batch[1][: len(short)]).max() < 1e-5


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_written_is_opened_and_does_the_same(name, tmp_path):
    spec = sound_settings(CONFIGS[name])
    assert Spec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(sound_config(spec)))
    opened = AutoFeatureExtractor.from_pretrained(tmp_path)
    before, after = extractor(CONFIGS[name]).to_dict(), opened.to_dict()
    differing = {key for key in before if before[key] != after.get(key)}
    assert differing <= {"return_attention_mask", "processor_class", "n_fft"}
    assert sound_settings(after) == spec


def test_a_long_recording_is_drawn_from_in_training():
    for name in ("clap, fused", "clap, unfused"):
        modality = sound_settings(CONFIGS[name]).build()
        raw = Sound(sound(2.5, 48_000), 48_000)
        assert modality.draws
        drawn = [modality.prepare(raw, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])
        assert drawn[0].shape == modality.blank().shape == modality.prepare(raw).shape
        short = Sound(sound(0.5, 48_000), 48_000)
        assert torch.equal(modality.prepare(short), modality.prepare(short, torch.Generator()))


def test_longer_recordings_can_be_told_by_their_views():
    modality = sound_settings(CONFIGS["clap, fused"]).build()
    for seconds, longer in ((0.5, False), (1.0, False), (1.3, True)):
        views = modality.prepare(Sound(sound(seconds, 48_000), 48_000))
        assert bool((views != views[..., :1]).any()) == longer


def test_other_rates_are_resampled():
    tone = np.sin(2 * np.pi * 300 * np.arange(48_000) / 48_000).astype(np.float32)
    values = Waveform(normalise=False).prepare(Sound(tone, 48_000))
    assert values.shape == (16_000, 1)
    assert np.abs(values[500:-500, 0].numpy() - tone[::3][500:-500]).max() < 1e-3


def test_waveforms():
    modality = Waveform(max_seconds=0.1)
    assert not modality.draws
    assert modality.prepare(Sound(sound(1, 16_000), 16_000)).shape == (1_600, 1)
    assert modality.blank().shape == (400, 1)
    with pytest.raises(DataError, match=r"at least 400 samples at 16,000 Hz \(0.025 s\), found 399"):
        modality.load_value((sound(1, 16_000)[:399], 16_000))
    assert modality.show(Sound(sound(0.1, 16_000), 16_000)).startswith("<figure")
    for settings in ({"least": 0}, {"max_seconds": 0.001}, {"sample_rate": 0}):
        with pytest.raises(ConfigError, match="Waveform"):
            Waveform(**settings)


def test_wrong_settings_of_a_mel_picture():
    spectrogram = sound_settings(WHISPER).spectrogram.build()
    for settings in ({"short": "loop"}, {"long": "last"}, {"std": 0.0}, {"seconds": 0.0}):
        with pytest.raises(ConfigError, match="MelPicture"):
            MelPicture(**{"spectrogram": spectrogram, "seconds": 1.0} | settings)


@pytest.mark.parametrize(
    ("config", "error", "reason"),
    [
        ({}, ConfigError, "x.json: image_processor_type: .*missing"),
        (
            {"feature_extractor_type": "SeamlessM4TFeatureExtractor"},
            CapabilityError,
            "no preparation for SeamlessM4T",
        ),
        (
            WAV2VEC2 | {"feature_size": 80},
            CapabilityError,
            "x.json: feature_size: only 1 is supported, found 80",
        ),
        (WAV2VEC2 | {"do_normalize": 1}, ConfigError, "do_normalize: expected true or false, found 1"),
        (WAV2VEC2 | {"padding_side": "left"}, CapabilityError, "padding_side: only 'right'"),
        (WAV2VEC2 | {"sampling_rate": -1}, ConfigError, "sampling_rate: expected a whole number, at least 1"),
        (WAV2VEC2 | {"hop_length": 160}, ConfigError, "hop_length: unknown field"),
        (CLAP | {"nb_max_samples": 480_000}, ConfigError, "nb_max_samples: contradictory: .* make it 48000"),
        (CLAP | {"nb_frequency_bins": 512}, ConfigError, "nb_frequency_bins: contradictory"),
        (CLAP | {"padding": "mirror"}, CapabilityError, "padding: there is no 'mirror'"),
        (CLAP | {"truncation": "first"}, CapabilityError, "truncation: there is no 'first'"),
        (WHISPER | {"dither": 1e-5}, CapabilityError, "dither: only 0.0 is supported"),
        (WHISPER | {"nb_max_frames": 7}, ConfigError, "nb_max_frames: contradictory"),
    ],
)
def test_refuses(config, error, reason):
    with pytest.raises(error, match=reason):
        sound_settings(config, "x.json")


def test_what_cannot_be_written():
    whisper, clap = sound_settings(WHISPER), sound_settings(CLAP)
    cases = [
        (Spec(Audio), "no feature extractor for Audio"),
        (whisper.replace(mean=0.0), "with mean 0.0: expected -4.0"),
        (whisper.replace(seconds=1.5), "whole seconds"),
        (clap.set("spectrogram.scale", "slaney"), "with spectrogram.scale 'slaney': expected 'htk'"),
        (whisper.set("spectrogram.low", 20.0), "with spectrogram.low 20.0: expected 0.0"),
    ]
    for spec, reason in cases:
        with pytest.raises(CapabilityError, match=reason):
            sound_config(spec)
