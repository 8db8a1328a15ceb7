"""Pieces of sound, spread over a recording."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sensorium.core import ConfigError
from sensorium.modalities.mel_segments import MelSegments
from sensorium.modalities.spectrogram import LogMel
from sensorium.testing import check_modality

RATE = 8_000
MEL = {"rate": RATE, "window": 256, "hop": 80, "mels": 16, "low": 50.0, "high": 4_000.0}


def segments(**more) -> MelSegments:
    return MelSegments(spectrogram=LogMel(**MEL), seconds=0.5, segments=4, mean=-4.0, std=2.0, **more)


def noise(seconds: float) -> np.ndarray:
    return (0.1 * np.random.default_rng(0).normal(size=round(seconds * RATE))).astype(np.float32)


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [(0.3, [0]), (0.5, [0]), (0.8, [0, 0.3]), (1.5, [0, 0.5, 1.0]), (10.0, [0, 9.5 / 3, 19 / 3, 9.5])],
)
def test_pieces_lie_evenly(seconds: float, starts: list[float]):
    modality, samples = segments(), noise(seconds)
    found = modality.prepare(modality.load_value((samples, RATE)))
    assert found.shape == (len(starts), 50, 16, 1)
    whole = np.pad(samples, (0, max(0, RATE // 2 - len(samples))))
    for piece, start in zip(found, starts, strict=True):
        begin = int(start * RATE + 1e-6)
        expected = (LogMel(**MEL)(torch.tensor(whole[begin : begin + RATE // 2])) + 4) / 2
        torch.testing.assert_close(piece[..., 0], expected)


def test_the_promises_of_a_modality():
    check_modality(
        segments(),
        [(noise(0.2), RATE), (noise(3.0), RATE)],
        broken=[b"RIFF", (np.zeros(0), RATE), "none.wav"],
    )


def test_what_cannot_be():
    for wrong in ({"seconds": 0.0}, {"segments": 0}, {"std": 0.0}):
        with pytest.raises(ConfigError, match="must be above 0"):
            MelSegments(**{"spectrogram": LogMel(**MEL), "seconds": 1.0, "segments": 1, "std": 1.0} | wrong)
