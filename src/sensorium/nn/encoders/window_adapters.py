"""One encoder for all windows of a picture, with small changes to its weights for each.

Legend: n segments, s... axes of a tile, c channels, e and d widths of a layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..layers.fused import FusedLinear
from .tower import Features, Tower, check_one_size


class LowRank(nn.Module):
    """``up @ down`` for each of ``windows``, a change of rank ``rank`` to a weight; at first none (LoRA, Hu et al.
    2021, arXiv:2106.09685).
    """

    def __init__(self, *, windows: int, rank: int, inner: int, width: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.randn(windows, rank, inner) * inner**-0.5)
        self.up = nn.Parameter(torch.zeros(windows, width, rank))

    def forward(self, window: int) -> Float[Tensor, "e d"]:
        return self.up[window] @ self.down[window]


class WindowAdapters(Tower):
    """Reads the tiles of values ``[n, tiles, *s, c]`` one by one with ``tower``. In the first ``windows`` of them,
    its linear layers have low-rank changes of their own; the others, such as the whole picture, are read without
    (Monkey, Li et al. 2023, arXiv:2311.06607).

    ``ranks`` are those of the layers inside parts of these names (``{"attention": 16}``). The changes are added to
    the weights before they are used, so that ``tower`` may be any. The vector of a segment is the mean of those of
    its tiles. Raises ConfigError for fewer tiles, for segments of unequal numbers, and for names that no layer is
    inside of.
    """

    def __init__(self, *, tower: Tower, windows: int, ranks: Mapping[str, int]) -> None:
        super().__init__()
        if windows < 1 or any(rank < 1 for rank in ranks.values()):
            raise ConfigError(f"windows and ranks must be at least 1, found {windows} and {dict(ranks)}")
        self.tower, self.windows = tower, windows
        self.width, self.pooled_width = tower.width, tower.pooled_width
        changed = {name: layer.weight for part in ranks for name, layer in _layers(tower, part)}
        ranked = {name: rank for part, rank in ranks.items() for name, _ in _layers(tower, part)}
        self.names = list(changed)
        self.adapters = nn.ModuleList(
            LowRank(windows=windows, rank=ranked[name], inner=weight.shape[1], width=weight.shape[0])
            for name, weight in changed.items()
        )

    def forward(self, values: Float[Tensor, "n tiles *s c"], lengths: Int[Tensor, "n"]) -> Features:
        check_one_size(values, lengths)
        tiles = values.shape[1]
        if tiles < self.windows:
            raise ConfigError(f"there are adapters for {self.windows} windows, found {tiles} tiles")
        found = [self._read(values[:, tile], tile) for tile in range(tiles)]
        segments = zip(*(one.segments() for one in found), strict=True)
        rows = torch.cat([one.rows[:0] for one in found] + [tile for tiles in segments for tile in tiles])
        counts = torch.stack([one.lengths for one in found]).sum(0).to(lengths)
        return Features(rows, counts, torch.stack([one.pooled for one in found]).mean(0))

    def _read(self, tile: Float[Tensor, "n *s c"], window: int) -> Features:
        """One tile of every segment."""
        lengths = torch.full((len(tile),), tile.shape[1], device=tile.device)
        if window >= self.windows:
            return self.tower(tile, lengths)
        weights = {
            f"{name}.weight": self.tower.get_submodule(name).get_parameter("weight") + adapter(window)
            for name, adapter in zip(self.names, self.adapters, strict=True)
        }
        return torch.func.functional_call(self.tower, weights, (tile, lengths))


def _layers(tower: nn.Module, part: str) -> Iterator[tuple[str, nn.Linear | FusedLinear]]:
    """The linear layers inside parts of this name."""
    found = [
        (name, layer)
        for name, layer in tower.named_modules()
        if isinstance(layer, nn.Linear | FusedLinear) and part in name.split(".")[:-1]
    ]
    if not found:
        raise ConfigError(f"the tower has no linear layer inside a part {part!r}")
    yield from found
