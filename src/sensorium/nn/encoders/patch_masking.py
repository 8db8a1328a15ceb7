"""Which patches of a grid a model has to restore, drawn from each segment's own seed; as many in each.

Legend: n segments, t patches of a grid in row-major order, m masked ones in all.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...core.errors import ConfigError
from ...core.random import uniform

_BLOCKS = 32  # rectangles drawn for each segment: more than are ever needed
_LEAST_ASPECT = 0.3  # of a rectangle, height over width or width over height


class PatchMasking(abc.ABC):
    """Hides the share ``ratio`` of the patches."""

    def __init__(self, *, ratio: float) -> None:
        if not 0 <= ratio < 1:
            raise ConfigError(f"masking.ratio must be at least 0 and below 1, found {ratio}")
        self.ratio = ratio

    @abc.abstractmethod
    def __call__(self, seed: Int[Tensor, "n"], grid: Sequence[int]) -> Bool[Tensor, "n t"]:
        """True where a patch is hidden."""


class RandomPatches(PatchMasking):
    """Any patches (MAE, He et al. 2021, arXiv:2111.06377)."""

    def __init__(self, *, ratio: float = 0.75) -> None:
        super().__init__(ratio=ratio)

    def __call__(self, seed: Int[Tensor, "n"], grid: Sequence[int]) -> Bool[Tensor, "n t"]:
        return self.by_noise(uniform(seed, math.prod(grid)))

    def by_noise(self, noise: Float[Tensor, "n t"]) -> Bool[Tensor, "n t"]:
        """The patches of least noise stay visible."""
        return _rank(noise) >= int(noise.shape[1] * (1 - self.ratio))


class Tubes(PatchMasking):
    """The same places at all times, which are the first axis (VideoMAE, Tong et al. 2022, arXiv:2203.12602): what
    hardly moves could otherwise be copied from another moment.
    """

    def __init__(self, *, ratio: float = 0.9) -> None:
        super().__init__(ratio=ratio)

    def __call__(self, seed: Int[Tensor, "n"], grid: Sequence[int]) -> Bool[Tensor, "n t"]:
        places = math.prod(grid[1:])
        return (_rank(uniform(seed, places)) < int(places * self.ratio)).repeat(1, grid[0])


class Blocks(PatchMasking):
    """Rectangles of at least ``least`` patches, one after the other, the last of them cut short (after BEiT, Bao et
    al. 2021, arXiv:2106.08254). Raises ConfigError for a grid that has not two axes.
    """

    def __init__(self, *, ratio: float = 0.4, least: int = 16) -> None:
        super().__init__(ratio=ratio)
        self.least = least

    def __call__(self, seed: Int[Tensor, "n"], grid: Sequence[int]) -> Bool[Tensor, "n t"]:
        if len(grid) != 2:
            raise ConfigError(f"rectangles lie on a grid of two axes, found {list(grid)}")
        places = math.prod(grid)
        drawn = uniform(seed, 4 * _BLOCKS + places)
        size, aspect, *corner = drawn[:, : 4 * _BLOCKS].unflatten(1, (4, _BLOCKS)).unbind(1)
        largest = max(self.ratio * places, 1.0)
        least = min(self.least, largest)
        area = least + size * (largest - least)
        shape = _LEAST_ASPECT ** (1 - 2 * aspect)
        within = torch.ones(len(seed), _BLOCKS, 1, 1, dtype=torch.bool, device=seed.device)
        sides = (area * shape).sqrt(), (area / shape).sqrt()
        for axis, (length, side, start) in enumerate(zip(grid, sides, corner, strict=True)):
            side = side.round().clamp(1, length)
            first = (start * (length - side + 1)).floor()
            place = torch.arange(length, device=seed.device)
            inside = (place >= first[..., None]) & (place < (first + side)[..., None])
            within = within & inside.unsqueeze(3 - axis)
        number = torch.arange(_BLOCKS, device=seed.device)[:, None, None]
        earliest = torch.where(within, number, _BLOCKS).amin(1).flatten(1)
        in_order = torch.arange(places, device=seed.device) / places
        tie = torch.where(earliest < _BLOCKS, in_order, drawn[:, 4 * _BLOCKS :])
        return _rank(earliest + tie) < int(places * self.ratio)


def shares(masked: Bool[Tensor, "n t"], dtype: torch.dtype) -> Float[Tensor, "m"]:
    """Equal weights that sum to one over the masked patches of each segment."""
    counts = masked.sum(1, keepdim=True).clamp(min=1)
    return counts.to(dtype).reciprocal().expand(masked.shape)[masked]


def _rank(numbers: Float[Tensor, "n t"]) -> Int[Tensor, "n t"]:
    """How many numbers of the same row are smaller, of equal ones those before."""
    return numbers.argsort(dim=1, stable=True).argsort(dim=1)
