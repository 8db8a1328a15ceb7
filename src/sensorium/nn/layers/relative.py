"""Relative positions: one learned number per head for each distance, added to the products of queries and keys.

Legend: h heads, q queries, k keys, t places of a grid.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from .rotary import grid_places
from .tables import interpolate

_LEADING = 3


class RelativeTable(nn.Module):
    """A number per head for each offset between two places of a ``grid`` (Swin, Liu et al. 2021, arXiv:2103.14030).

    With ``leading``, one token without a place comes first, and the last three rows are those from it to a place,
    from a place to it and to itself (BEiT, Bao et al. 2021, arXiv:2106.08254). For another grid of two axes the table
    is stretched linearly. All numbers start at zero.
    """

    def __init__(self, *, grid: Sequence[int], heads: int, leading: bool = False) -> None:
        super().__init__()
        self.grid, self.leading = tuple(grid), leading
        rows = math.prod(_spans(self.grid)) + _LEADING * leading
        self.weight = nn.Parameter(torch.zeros(rows, heads))
        # Not saved; named so that it exists where parameters are only described ("meta").
        index = offset_rows(self.grid, leading)
        self.register_buffer("index", index, persistent=False)

    def forward(self, grid: Sequence[int] | None) -> Float[Tensor, "1 h t t"]:
        """What to add for all pairs of places of ``grid`` (and the leading token)."""
        if grid is None:
            raise ConfigError("relative positions need tokens that lie on a grid, found none")
        if tuple(grid) == self.grid:
            return _looked_up(self.weight, self.get_buffer("index"))
        return _looked_up(self._stretched(tuple(grid)), offset_rows(grid, self.leading, self.weight.device))

    def _stretched(self, grid: tuple[int, ...]) -> Float[Tensor, "rows h"]:
        offsets = math.prod(_spans(self.grid))
        places, leading = self.weight[:offsets], self.weight[offsets:]
        return torch.cat([interpolate(places, _spans(self.grid), _spans(grid), "bilinear"), leading])


class BucketBias(nn.Module):
    """A number per head for each distance between tokens, which share ``buckets`` (T5, Raffel et al. 2019,
    arXiv:1910.10683).

    Half of the buckets are single distances, the rest grow like logarithms; all from ``farthest`` on share the last.
    If not ``causal``, half of the buckets are for what comes after.
    """

    def __init__(self, *, heads: int, buckets: int = 32, farthest: int = 128, causal: bool = False) -> None:
        super().__init__()
        least = 2 if causal else 4
        if buckets < least or buckets % 2 or farthest <= buckets // least:
            raise ConfigError(
                f"BucketBias: expected an even number of at least {least} buckets, and farthest beyond "
                f"{buckets // least}, found {buckets} and {farthest}"
            )
        self.buckets, self.farthest, self.causal = buckets, farthest, causal
        self.weight = nn.Parameter(torch.randn(buckets, heads) * heads**-0.5)

    def forward(self, queries: int, keys: int) -> Float[Tensor, "1 h q k"]:
        """What to add for the last ``queries`` of ``keys`` tokens."""
        places = torch.arange(keys, device=self.weight.device)
        ahead = places[None, :] - places[keys - queries :, None]
        return self.weight[self._bucket(ahead)].permute(2, 0, 1)[None]

    def _bucket(self, ahead: Int[Tensor, "q k"]) -> Int[Tensor, "q k"]:
        if self.causal:
            return self._distance((-ahead).clamp(min=0), self.buckets)
        half = self.buckets // 2
        return self._distance(ahead.abs(), half) + half * (ahead > 0)

    def _distance(self, far: Int[Tensor, "q k"], buckets: int) -> Int[Tensor, "q k"]:
        exact = buckets // 2
        share = (far.clamp(min=exact).float() / exact).log() / math.log(self.farthest / exact)
        rough = exact + (share * (buckets - exact)).long()
        return torch.where(far < exact, far, rough.clamp(max=buckets - 1))


def _looked_up(table: Float[Tensor, "rows h"], index: Int[Tensor, "t t"]) -> Float[Tensor, "1 h t t"]:
    return table[index.flatten()].unflatten(0, index.shape).permute(2, 0, 1)[None]


def _spans(grid: Sequence[int]) -> tuple[int, ...]:
    """How many offsets there are along each axis."""
    return tuple(2 * n - 1 for n in grid)


def offset_rows(
    grid: Sequence[int], leading: bool = False, device: torch.device | str = "cpu"
) -> Int[Tensor, "t t"]:
    """The row of a ``RelativeTable`` for each pair of a query and a key."""
    places = grid_places(tuple(grid), torch.device(device))
    offsets = places[:, None] - places[None, :]
    index = torch.zeros(offsets.shape[:-1], dtype=torch.long, device=device)
    for axis, n in enumerate(grid):
        index = index * (2 * n - 1) + offsets[..., axis] + n - 1
    if not leading:
        return index
    rows = math.prod(_spans(grid))
    index = torch.nn.functional.pad(index, (1, 0, 1, 0), value=rows)
    index[1:, 0], index[0, 0] = rows + 1, rows + 2
    return index
