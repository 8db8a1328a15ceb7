"""Neighbouring tokens folded into channels, so that there are fewer and wider ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Int
from torch import Tensor

from ...core.errors import ConfigError
from ..encoders.stems import patches
from ..encoders.tower import Features
from .connector import Connector, Rows, pieces


class Unshuffled(Connector):
    """Squares of ``factor`` times ``factor`` tokens side by side, then ``projector``: space to depth (Shi et al. 2016,
    arXiv:1609.05158), as in InternVL 1.5 (Chen et al. 2024, arXiv:2404.16821) and Idefics3 (Laurençon et al. 2024,
    arXiv:2408.12637).

    A segment is one or more tiles, each a ``grid`` of tokens. Channels are those of the upper left token first, then
    along the row, row by row: both models do that, though each in steps of its own. Raises ConfigError for a grid
    that the factor does not divide.
    """

    def __init__(self, *, grid: Sequence[int], factor: int, projector: Connector) -> None:
        super().__init__()
        check_grid(grid, factor)
        self.grid, self.factor, self.projector = tuple(grid), factor, projector
        self.width = projector.width

    def forward(self, features: Features, layout: Int[Tensor, "n k"] | None = None) -> Rows:
        tiles = pieces(features, math.prod(self.grid)).unflatten(1, self.grid)
        rows = patches(tiles, [self.factor] * 2).flatten(0, 1)
        return self.projector(
            replace(features, rows=rows, lengths=features.lengths // self.factor**2), layout
        )


def check_grid(grid: Sequence[int], factor: int) -> None:
    """Raise ConfigError unless ``grid`` is rows and columns of tokens, both multiples of ``factor``."""
    if len(grid) != 2 or factor < 1 or any(side < 1 or side % factor for side in grid):
        raise ConfigError(
            f"a grid of tokens must be rows and columns that {factor} divides, found {list(grid)}"
        )
