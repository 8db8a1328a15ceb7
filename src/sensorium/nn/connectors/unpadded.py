"""The tiles of a large picture as one picture again, without the margins, row by row.

Legend: m tokens in all, n segments, r rows, k columns, d width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.canvas import best_resolution, covered
from ...core.errors import ConfigError
from ..encoders.stems import assembled
from ..encoders.tower import Features
from .connector import Connector, Rows


class Unpadded(Connector):
    """The rows that ``connector`` makes of the whole picture, the first tile, and then of the other tiles as one large
    grid, cut to the shape of the original and with a learned row at the end of each line (LLaVA-NeXT, Liu et al. 2024).

    A tile is ``side`` pixels high and wide and a ``grid`` of tokens. The layout is the height and width of the
    original, which decides which of ``resolutions``, pairs of height and width in pixels, the tiles fill. A picture of
    one tile has one learned row at its end. Raises ConfigError where the number of tiles is another.
    """

    def __init__(
        self,
        *,
        grid: Sequence[int],
        side: int,
        resolutions: Sequence[Sequence[int]],
        connector: Connector,
    ) -> None:
        super().__init__()
        if not resolutions or any(
            len(pair) != 2 or any(part < side or part % side for part in pair) for pair in resolutions
        ):
            raise ConfigError(
                f"resolutions must be pairs of multiples of the tile, {side}, found {resolutions}"
            )
        self.grid, self.side, self.connector = tuple(grid), side, connector
        self.resolutions = [(height, width) for height, width in resolutions]
        self.width = connector.width
        self.newline = nn.Parameter(torch.randn(self.width) * self.width**-0.5)

    def forward(self, features: Features, layout: Int[Tensor, "n k"] | None = None) -> Rows:
        if layout is None and not len(features.lengths):
            layout = features.lengths.new_zeros(0, 2)
        if layout is None or layout.shape[1] != 2:
            raise ConfigError("these segments need a layout of the original height and width, found none")
        rows = self.connector(features, layout)
        tiles = rows.rows.split(rows.lengths.tolist())
        found = [self._one(x, (size[0], size[1])) for x, size in zip(tiles, layout.tolist(), strict=True)]
        lengths = rows.lengths.new_tensor([len(x) for x in found])
        # Without segments the weights are read all the same: they have a gradient on every rank or on none.
        return Rows(torch.cat([rows.rows[:0], self.newline[None, :][:0], *found]), lengths)

    def _one(self, x: Float[Tensor, "m d"], size: tuple[int, int]) -> Float[Tensor, "k d"]:
        tokens = math.prod(self.grid)
        if len(x) == tokens:
            return torch.cat([x, self.newline[None]])
        shape = [part // self.side for part in best_resolution(size, self.resolutions)]
        if len(x) != tokens * (1 + math.prod(shape)):
            raise ConfigError(
                f"an original of {size[0]} x {size[1]} pixels has 1 + {math.prod(shape)} tiles of {tokens} "
                f"tokens, found {len(x)} tokens"
            )
        tiles = x[tokens:].view(1, math.prod(shape), -1)
        rows, columns = covered([side * many for side, many in zip(self.grid, shape, strict=True)], size)
        whole = assembled(tiles, shape, self.grid)[0, rows, columns]
        lines = torch.cat([whole, self.newline.expand(len(whole), 1, -1)], dim=1)
        return torch.cat([x[:tokens], lines.flatten(0, 1)])
