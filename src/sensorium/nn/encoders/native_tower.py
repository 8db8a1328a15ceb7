"""The vision transformer over segments each in its own shape: as many patches as it has, none of them padding.

Legend: n segments, t patches of the longest, m real patches in all, b bytes of a patch, c channels, d width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from ..heads.pooling import Pooling
from ..layers.linear import Linear
from ..layers.masks import padding
from ..layers.packing import packing, real_places
from ..layers.transformer import Transformer
from .pixels import split_places
from .tower import Features, Tower


class NativeEmbedding(nn.Module):
    """One linear map of each ``patch`` x ``patch`` square plus the position of its place in the grid of its segment.

    ``values`` comes first: it brings bytes to the range that the network expects (see ``Pixels``). ``positions`` is
    called once for each grid among the segments.
    """

    def __init__(
        self,
        *,
        patch: int,
        channels: int,
        width: int,
        positions: nn.Module,
        values: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.patch, self.width = patch, width
        self.values = values if values is not None else nn.Identity()
        self.project = Linear(patch * patch * channels, width)
        self.positions = positions

    def forward(
        self, squares: Float[Tensor, "m p p c"], places: Int[Tensor, "m 2"], lengths: Int[Tensor, "n"]
    ) -> Float[Tensor, "m d"]:
        x = self.project(self.values(squares).flatten(1))
        # Without rows the table is read all the same: its gradient must be there on every rank or on none.
        return x + (self._positions(places, lengths) if len(x) else self.positions((1, 1))[:0])

    def _positions(self, places: Int[Tensor, "m 2"], lengths: Int[Tensor, "n"]) -> Float[Tensor, "m d"]:
        """The vector of each place; a grid has one row and column more than the largest place in it."""
        segment = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
        last = places.new_zeros(len(lengths), 2).scatter_reduce(
            0, segment[:, None].expand(-1, 2), places, "amax"
        )
        grids = [(row + 1, column + 1) for row, column in last.tolist()]
        tables, starts, total = [], {}, 0
        for grid in dict.fromkeys(grids):
            tables.append(self.positions(grid))
            starts[grid] = total
            total += len(tables[-1])
        start = torch.tensor([starts[grid] for grid in grids], device=places.device)
        columns = last[:, 1] + 1
        return torch.cat(tables)[start[segment] + places[:, 0] * columns[segment] + places[:, 1]]


class NativeTower(Tower):
    """Patches that carry their places through a transformer (NaViT, Dehghani et al. 2023, arXiv:2307.06304; NaFlex of
    SigLIP 2, Tschannen et al. 2025, arXiv:2502.14786).

    Values are bytes [n, t, b] as ``split_places`` reads them.
    """

    def __init__(
        self,
        *,
        embedding: NativeEmbedding,
        trunk: Transformer,
        pool: Pooling,
        norm_out: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.embedding, self.trunk, self.pool = embedding, trunk, pool
        self.norm_out = norm_out if norm_out is not None else nn.Identity()
        self.width, self.pooled_width = trunk.width, pool.width

    def forward(self, values: UInt8[Tensor, "n t b"], lengths: Int[Tensor, "n"]) -> Features:
        real = real_places(lengths, values.shape[1])
        place = packing(real)
        squares, places = split_places(place.pack(values)[None], self.embedding.patch)
        x = self.embedding(squares[0], places[0], lengths)
        rows = self.norm_out(self.trunk(x, place, padding(real)))
        return Features(rows, lengths, self.pool(rows, lengths))
