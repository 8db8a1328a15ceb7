"""Further blocks on top of a tower, and a convolutional network as a few regions: the towers of BriVL.

Legend: n segments, t tokens of the longest, m real tokens in all, d width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor

from ...core.errors import ConfigError
from ..heads.pooling import Pooling
from ..layers.masks import padding
from ..layers.packing import packing, real_places
from ..layers.transformer import Transformer
from .convolutional import ConvTower
from .tower import Features, Tower


class Attended(Tower):
    """A tower whose tokens look at one another in the blocks of ``trunk`` before ``pool`` makes one vector of them.

    Raises ConfigError where the widths differ.
    """

    def __init__(self, *, tower: Tower, trunk: Transformer, pool: Pooling) -> None:
        super().__init__()
        if tower.width != trunk.width:
            raise ConfigError(f"the tower has width {tower.width}, the blocks on top of it {trunk.width}")
        self.tower, self.trunk, self.pool = tower, trunk, pool
        self.width, self.pooled_width = trunk.width, pool.width

    def forward(self, values: Tensor, lengths: Int[Tensor, "n"]) -> Features:
        found = self.tower(values, lengths)
        longest = int(found.lengths.max()) if len(found.lengths) else 0
        real = real_places(found.lengths, longest)
        rows = self.trunk(found.rows, packing(real), padding(real))
        return Features(rows, found.lengths, self.pool(rows, found.lengths))


class Regions(Tower):
    """The last map of a convolutional network, averaged over the cells of several square grids, one after the other
    (multi-scale patch pooling, Fei et al. 2021, arXiv:2110.14378): with ``grids`` of 1 and 6, 37 tokens for a picture
    of any size. Raises ConfigError for no grid or one without cells.
    """

    def __init__(self, *, tower: ConvTower, grids: Sequence[int]) -> None:
        super().__init__()
        if not grids or min(grids) < 1:
            raise ConfigError(f"grids must be one or more numbers of at least 1, found {list(grids)}")
        self.tower, self.grids = tower, list(grids)
        self.width, self.pooled_width = tower.width, tower.pooled_width

    def forward(self, values: Tensor, lengths: Int[Tensor, "n"]) -> Features:
        found = self.tower.maps(self.tower.values(values).permute(0, 3, 1, 2))
        cells = torch.cat([F.adaptive_avg_pool2d(found, side).flatten(2) for side in self.grids], dim=2)
        rows = cells.movedim(1, 2)
        counts = lengths.new_full((len(rows),), rows.shape[1])
        return Features(rows.flatten(0, 1), counts, found.mean((2, 3)))
