"""Sine-cosine positions that are kept with the weights, as MAE keeps them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .positions import sin_cos
from .tables import interpolate


class SinCosTable(nn.Module):
    """Sine-cosine positions of a ``grid`` after zeros for ``prefix`` leading tokens: saved, never trained.

    ``order`` is that of the axes in the channels: see ``sin_cos``. For another grid of two axes the table is
    interpolated, with ``in_line`` along the reading order alone, as the reference of MAE's decoder does.
    """

    def __init__(
        self,
        *,
        grid: Sequence[int],
        width: int,
        prefix: int = 0,
        order: Sequence[int] | None = None,
        in_line: bool = False,
    ) -> None:
        super().__init__()
        self.grid, self.prefix, self.in_line = tuple(grid), prefix, in_line
        table = sin_cos(self.grid, width, order=order)
        self.register_buffer("weight", torch.cat([table.new_zeros(prefix, width), table]))

    def forward(self, grid: Sequence[int]) -> Float[Tensor, "p d"]:
        """The vectors of the leading tokens and of all places of ``grid``."""
        table = self.get_buffer("weight")
        before, after = self.grid, tuple(grid)
        if self.in_line:
            before, after = (1, math.prod(before)), (1, math.prod(after))
        if before == after:
            return table
        return torch.cat([table[: self.prefix], interpolate(table[self.prefix :], before, after)])
