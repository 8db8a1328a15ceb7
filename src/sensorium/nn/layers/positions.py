"""Positions that need no table of weights: sine and cosine over sequences and grids."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


def sin_cos(
    grid: Sequence[int],
    width: int,
    device: torch.device | None = None,
    *,
    order: Sequence[int] | None = None,
) -> Float[Tensor, "tokens width"]:
    """Sine-cosine positions (Vaswani et al. 2017, arXiv:1706.03762) of a grid in row-major order.

    Each axis gets an equal share of the ``width`` channels, one axis after the other or in the ``order`` given
    (MAE has columns before rows: [1, 0]); channels that cannot be shared stay zero.
    """
    pairs = width // (2 * len(grid))
    rates = torch.exp(torch.arange(pairs, device=device) * (-math.log(10_000.0) / max(pairs, 1)))
    places = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
    angles = [places[axis].reshape(-1, 1) * rates for axis in order or range(len(grid))]
    table = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return torch.nn.functional.pad(table, (0, width - table.shape[1]))


def waves(
    length: int, width: int, *, slowest: bool = False, alternating: bool = False
) -> Float[Tensor, "t d"]:
    """Sine-cosine positions of a sequence, computed in double precision and given in single, on the CPU.

    The rates of the ``width / 2`` waves fall from 1 towards 1 / 10000, which they reach only with ``slowest``
    (Whisper, arXiv:2212.04356). All sines come before all cosines, or ``alternating`` with them (VideoMAE,
    arXiv:2203.12602).
    """
    pairs = width // 2
    steps = max(pairs - 1, 1) if slowest else pairs
    rates = 10_000.0 ** -(torch.arange(pairs, dtype=torch.float64, device="cpu") / steps)
    angles = torch.arange(length, dtype=torch.float64, device="cpu")[:, None] * rates
    parts = angles.sin(), angles.cos()
    return (torch.stack(parts, -1).flatten(1) if alternating else torch.cat(parts, 1)).float()


class Waves(nn.Module):
    """``waves`` as the positions of an encoder: all places of a grid, counted in row-major order, have their own.

    ``length`` is how many are kept ready. There is nothing to save.
    """

    def __init__(self, *, length: int, width: int, slowest: bool = False, alternating: bool = False) -> None:
        super().__init__()
        self.width, self.slowest, self.alternating = width, slowest, alternating
        self.register_buffer("table", self._made(length), persistent=False)

    def forward(self, grid: Sequence[int]) -> Float[Tensor, "p d"]:
        """The vectors of all places of ``grid``."""
        table, places = self.get_buffer("table"), math.prod(grid)
        return table[:places] if places <= len(table) else self._made(places).to(table)

    def _made(self, length: int) -> Float[Tensor, "p d"]:
        return waves(length, self.width, slowest=self.slowest, alternating=self.alternating)
