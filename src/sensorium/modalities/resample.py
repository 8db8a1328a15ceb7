"""Change of sampling rate by any ratio, with a windowed-sinc filter evaluated once per phase (polyphase)."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_ZEROS = 64  # zero crossings of the sinc on each side
_ATTENUATION = 80.0  # dB, in the stop band
_BETA = 0.1102 * (_ATTENUATION - 8.7)  # Kaiser's formula (Kaiser 1974)
_TRANSITION = (_ATTENUATION - 7.95) / (14.36 * _ZEROS)  # width, as a share of the lower Nyquist frequency
_FINEST = 10_000  # ratios of larger numbers are rounded, which changes the pitch by less than 1 in 10,000
_BLOCK = 64  # phases computed together: they share most of their input
_LEAST = 16  # phases, for which a convolution is fast; several short periods make a long one


def resample(samples: Float[Tensor, "n"], old: int, new: int) -> Float[Tensor, "m"]:
    """``samples`` at ``new`` Hz, ``ceil(n * new / old)`` of them, without aliases or images (80 dB).

    Frequencies up to 92 % of the lower Nyquist frequency pass unchanged, and nothing is delayed: output
    ``m`` stands at the time ``m / new``. Outside the recording is silence.
    """
    if old == new or len(samples) == 0:
        return samples
    up, down = ratio(old, new)
    repeats = math.ceil(_LEAST / up)
    up, down = up * repeats, down * repeats
    blocks = _filters(up, down)
    length = math.ceil(len(samples) * up / down)
    periods = math.ceil(length / up)  # of `up` outputs from `down` inputs
    reach = _reach(up, down)
    last = (periods - 1) * down + max(start + weights.shape[-1] for start, weights in blocks)
    padded = F.pad(samples, (reach, max(0, last - reach - len(samples))))[None, None]
    outputs = []
    for start, weights in blocks:
        end = start + (periods - 1) * down + weights.shape[-1]
        outputs.append(F.conv1d(padded[..., start:end], weights, stride=down)[0])
    return torch.cat(outputs).T.reshape(-1)[:length]


def ratio(old: int, new: int) -> tuple[int, int]:
    """``(up, down)``: how many output samples stand for how many input samples."""
    closest = Fraction(new, old).limit_denominator(max(_FINEST, math.ceil(old / new)))
    return closest.numerator, closest.denominator


def _reach(up: int, down: int) -> int:
    """Input samples that the filter sees on each side of an output."""
    return math.ceil(_ZEROS * max(1.0, down / up)) + 1


@lru_cache(maxsize=16)
def _filters(up: int, down: int) -> list[tuple[int, Float[Tensor, "phases 1 taps"]]]:
    """For each block of phases, the first padded input it sees, and its weights.

    Output ``p`` of a period stands at the input time ``p * down / up``. A block's filters all start at the
    same input, so that one convolution with stride ``down`` computes the block in every period.
    """
    reach = _reach(up, down)
    bandwidth = min(1.0, up / down)  # of the lower rate, in units of the input rate
    cutoff = bandwidth * (1 - _TRANSITION / 2)
    blocks = []
    for first in range(0, up, _BLOCK):
        times = torch.arange(first, min(first + _BLOCK, up), dtype=torch.float64) * down / up
        start = math.floor(times[0])
        taps = math.floor(times[-1]) - start + 2 * reach + 1
        distance = start - reach + torch.arange(taps, dtype=torch.float64) - times[:, None]
        inside = (1 - (distance * bandwidth / _ZEROS).square()).clamp_min(0)
        window = torch.special.i0(_BETA * inside.sqrt()) / torch.special.i0(torch.tensor(_BETA))
        weights = cutoff * torch.sinc(cutoff * distance) * window * (inside > 0)
        weights = weights / weights.sum(1, keepdim=True)  # a constant stays exactly the same in every phase
        blocks.append((start, weights.float()[:, None]))
    return blocks
