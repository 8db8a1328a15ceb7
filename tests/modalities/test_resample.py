from __future__ import annotations

import math

import pytest
import torch

from sensorium.modalities.resample import ratio, resample

RATES = [
    (44_100, 16_000),
    (48_000, 16_000),
    (8_000, 16_000),
    (22_050, 16_000),
    (11_127, 16_000),
    (96_000, 8_000),
]


def tone(hertz, rate, seconds=0.5):
    return torch.sin(
        2 * math.pi * hertz * torch.arange(int(rate * seconds), dtype=torch.float64) / rate
    ).float()


@pytest.mark.parametrize(("old", "new"), RATES)
def test_tones_pass_unchanged_and_undelayed(old, new):
    nyquist = min(old, new) / 2
    for hertz in (50.0, 0.3 * nyquist, 0.6 * nyquist, 0.9 * nyquist):
        found = resample(tone(hertz, old), old, new)
        expected = tone(hertz, new)
        assert abs(len(found) - len(expected)) <= 1
        middle = slice(len(expected) // 4, 3 * len(expected) // 4)
        assert (found[middle] - expected[middle]).abs().max() < 1e-3


@pytest.mark.parametrize(("old", "new"), [pair for pair in RATES if pair[0] > pair[1]])
def test_frequencies_that_do_not_fit_vanish(old, new):
    for share in (1.01, 1.2, 1.6):
        hertz = share * new / 2
        if hertz < old / 2:
            found = resample(tone(hertz, old), old, new)
            middle = found[len(found) // 4 : 3 * len(found) // 4]
            assert middle.abs().max() < 1e-3  # 60 dB


def test_upsampling_makes_no_images():
    found = resample(tone(3_000, 8_000, 1.0), 8_000, 16_000)[4_000:12_000]
    spectrum = torch.fft.rfft(found * torch.hann_window(8_000)).abs()
    bins = torch.arange(len(spectrum)) * 2.0
    assert spectrum[(bins > 4_000)].max() / spectrum.max() < 1e-3


def test_a_constant_stays_constant():
    found = resample(torch.ones(4_000), 44_100, 16_000)
    assert (found[100:-100] - 1).abs().max() < 1e-5


@pytest.mark.parametrize("length", [1, 2, 7, 441, 1000])
def test_length(length):
    for old, new in RATES:
        assert len(resample(torch.zeros(length), old, new)) == pytest.approx(length * new / old, abs=1)
    assert len(resample(torch.zeros(0), 8_000, 16_000)) == 0


def test_same_rate_is_the_same_signal():
    signal = torch.randn(100)
    assert resample(signal, 16_000, 16_000) is signal


def test_is_linear_and_invariant_to_shifts():
    signal = torch.randn(4_410, generator=torch.Generator().manual_seed(0))
    found = resample(signal, 44_100, 16_000)
    assert torch.allclose(resample(2 * signal, 44_100, 16_000), 2 * found, atol=1e-5)
    later = resample(torch.cat([torch.zeros(441), signal]), 44_100, 16_000)
    assert torch.allclose(later[160:], found, atol=1e-5)


def test_absurd_rates_take_little_memory():
    for old, new in ((999_983, 16_000), (1, 16_000), (1_000_000, 1_000), (31_994, 16_000), (16_001, 16_000)):
        up, down = ratio(old, new)
        assert up / down == pytest.approx(new / old, rel=1e-4)
        assert len(resample(torch.zeros(min(old, 2_000)), old, new)) >= 1


def test_ordinary_rates_are_exact():
    assert [ratio(old, 16_000) for old in (44_100, 48_000, 8_000)] == [(160, 441), (1, 3), (2, 1)]
