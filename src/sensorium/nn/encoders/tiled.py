"""Segments of several pieces of one size, each read by itself: a large picture in tiles, a clip in frames."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor, nn

from ..heads.pooling import MeanToken
from ..layers.packing import real_places
from .tower import Features, Tower


class Tiled(Tower):
    """Reads values ``[n, tiles, *s, c]``, with lengths in tiles, tile by tile with ``tower``.

    The tokens of a segment are those of its tiles, one after the other; ``pool`` makes its vector of theirs, by
    default the mean.
    """

    def __init__(self, *, tower: Tower, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.tower, self.pool = tower, pool if pool is not None else MeanToken()
        self.width, self.pooled_width = tower.width, tower.pooled_width

    def forward(self, values: Tensor, lengths: Int[Tensor, "n"]) -> Features:
        real = real_places(lengths, values.shape[1])
        tiles = values[real]
        found = self.tower(tiles, lengths.new_full((len(tiles),), tiles.shape[1]))
        owner = real.nonzero()[:, 0]
        tokens = lengths.new_zeros(len(lengths)).index_add(0, owner, found.lengths.to(lengths))
        return Features(found.rows, tokens, self.pool(found.pooled, lengths))
