"""The sound of a scene: one note per object from left to right.

Shape is timbre, colour is pitch, size is loudness.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from .scene import COLOURS, Scene

RATE = 16_000  # Hz
NOTE = 4_000  # samples: 0.25 s
# Two octaves in equal steps of about 3.4 semitones: apart enough for a mel filter bank even at the bottom.
PITCHES = {colour: 330 * 4 ** (k / (len(COLOURS) - 1)) for k, colour in enumerate(COLOURS)}  # Hz
LOUDNESS = {"small": 0.0126, "medium": 0.0355, "big": 0.1}  # root mean square of full scale; steps of 9 dB
_FLOOR = 0.0005  # root mean square of the noise
_FADE = 80  # samples of fade-in and fade-out, against clicks

# Amplitude over the time of a note, which runs from 0 to 1.
ENVELOPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flat": np.ones_like,
    "pluck": lambda t: np.exp(-4 * t),
    "swell": lambda t: t**2,
    "arch": lambda t: np.sin(np.pi * t) ** 2,
    "two hits": lambda t: np.exp(-5 * (2 * t % 1)),
    "pulses": lambda t: np.sin(4 * np.pi * t) ** 2,
}
# Envelope and partials, as (multiple of the pitch, amplitude); the pitch itself is always the strongest,
# and the highest partial of the highest pitch stays below RATE / 2.
TIMBRES: dict[str, tuple[str, tuple[tuple[float, float], ...]]] = {
    "circle": ("flat", ((1, 1.0),)),
    "square": ("flat", ((1, 1.0), (3, 0.7), (5, 0.6))),
    "triangle": ("pluck", ((1, 1.0), (2, 0.6), (3, 0.4), (4, 0.3))),
    "star": ("pulses", ((1, 1.0), (4, 0.7), (6, 0.5))),
    "ring": ("pluck", ((1, 1.0), (2.76, 0.7), (5.4, 0.6))),
    "cross": ("two hits", ((1, 1.0), (2, 0.7), (3, 0.6), (4, 0.5), (5, 0.4))),
    "heart": ("swell", ((1, 1.0), (2, 0.8))),
    "moon": ("arch", ((1, 1.0), (3, 0.7))),
}


@cache
def note(shape: str, colour: str) -> np.ndarray:
    """One note, Float32[NOTE], with a root mean square of 1: loudness is left to the size."""
    envelope, partials = TIMBRES[shape]
    multiples, amplitudes = np.array(partials).T
    time = np.arange(NOTE) / RATE
    wave = amplitudes @ np.sin(2 * np.pi * PITCHES[colour] * multiples[:, None] * time)
    wave *= ENVELOPES[envelope](np.arange(NOTE) / NOTE)
    ramp = np.linspace(0, 1, _FADE)
    wave[:_FADE] *= ramp
    wave[-_FADE:] *= ramp[::-1]
    return (wave / np.sqrt(np.mean(wave**2))).astype(np.float32)


def waveform(scene: Scene) -> np.ndarray:
    """The sound of a scene, Float32[samples] within -1 .. 1 at RATE; 0.3 s to 0.9 s. Never normalised."""
    rng = scene.generator("sound")
    pieces = [_silence(rng)]
    for thing in scene.left_to_right:
        pieces += [LOUDNESS[thing.size] * note(thing.shape, thing.colour), _silence(rng)]
    wave = np.concatenate(pieces)
    return wave + _FLOOR * rng.standard_normal(len(wave), dtype=np.float32)


def _silence(rng: np.random.Generator) -> np.ndarray:
    """A gap of 15 to 35 ms."""
    return np.zeros(int(rng.integers(240, 560)), np.float32)
