"""Numbers as one of 1,024 tokens, and back (Gato, Reed et al. 2022, arXiv:2205.06175)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

#: How many there are; whole numbers below this are tokens as they are.
BINS = 1024
_MU, _LARGEST = 100.0, 256.0


def companded(values: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """Numbers of any size brought to [-1, 1] by the mu-law, finest around zero; beyond 256 all are alike."""
    squeezed = np.log1p(np.abs(values) * _MU) / np.log1p(_LARGEST * _MU)
    return np.sign(values) * np.minimum(squeezed, 1.0)


def expanded(values: Float[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """The numbers that ``companded`` brought to these."""
    return np.sign(values) * np.expm1(np.abs(values) * np.log1p(_LARGEST * _MU)) / _MU


def to_bins(values: Float[np.ndarray, "*s"]) -> Int[np.ndarray, "*s"]:
    """Which of the equal parts of [-1, 1] each number is in."""
    return np.clip(np.floor((values + 1) / 2 * BINS), 0, BINS - 1).astype(np.int64)


def from_bins(bins: Int[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"]:
    """The middle of each part."""
    return (2 * (bins + 0.5) / BINS - 1).astype(np.float32)
