"""Learned positions: one vector per place of a sequence or grid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...core.errors import ConfigError

_MODES = {1: "linear", 2: "bicubic"}


class PositionTable(nn.Module):
    """One vector for each of ``prefix`` leading tokens and each place of a ``grid`` in row-major order.

    For another grid the table is interpolated (bicubic in two axes, as ViT does: Dosovitskiy et al. 2020,
    arXiv:2010.11929; ``mode`` names another way of torch); the vectors of the leading tokens stay. ``antialias``
    smooths where the grid shrinks, ``single`` interpolates in single precision whatever the type of the weights.
    """

    def __init__(
        self,
        *,
        grid: Sequence[int],
        width: int,
        prefix: int = 0,
        mode: str | None = None,
        antialias: bool = False,
        single: bool = False,
    ) -> None:
        super().__init__()
        self.grid, self.prefix = tuple(grid), prefix
        self.mode, self.antialias, self.single = mode, antialias, single
        self.weight = nn.Parameter(torch.randn(prefix + math.prod(grid), width) * 0.02)

    def forward(self, grid: Sequence[int]) -> Float[Tensor, "p d"]:
        """The vectors of the leading tokens and of all places of ``grid``."""
        if tuple(grid) == self.grid:
            return self.weight
        lead, places = self.weight[: self.prefix], self.weight[self.prefix :]
        numbers = places.float() if self.single else places
        stretched = interpolate(numbers, self.grid, grid, self.mode, antialias=self.antialias)
        return torch.cat([lead, stretched.to(places.dtype)])


def interpolate(
    table: Float[Tensor, "p d"],
    before: Sequence[int],
    after: Sequence[int],
    mode: str | None = None,
    *,
    antialias: bool = False,
) -> Float[Tensor, "q d"]:
    """A table over one grid of one or two axes, read at the places of another. Raises ConfigError for more axes."""
    if len(before) != len(after) or len(before) not in _MODES:
        raise ConfigError(f"positions of the grid {list(before)} cannot be stretched to {list(after)}")
    shaped = table.T.reshape(1, -1, *before)
    mode = mode or _MODES[len(before)]
    stretched = F.interpolate(shaped, size=tuple(after), mode=mode, align_corners=False, antialias=antialias)
    return stretched.flatten(2)[0].T
