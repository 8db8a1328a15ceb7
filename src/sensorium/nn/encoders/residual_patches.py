"""Pictures as patches, each through one small residual block by itself.

Legend: n pictures, p patches of a picture, h and w the axes of a picture, c channels, d width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..heads.pooling import MeanToken
from ..layers.linear import Linear
from .preactivation import PreActivation
from .stems import patches
from .tower import Features, Tower, check_one_size


class ResidualPatches(Tower):
    """Squares of ``patch`` pixels through a convolution to ``inner`` channels, a residual block with the nonlinearity
    before (``PreActivation``), and a linear map to ``width``; then learned vectors for where in the picture the rows
    and columns of the patch lie, from 0 to 1 in 128 intervals (Gato, Reed et al. 2022, arXiv:2205.06175). In
    training, the place is drawn from within the patch, in use it is its middle.

    ``values`` comes first (see ``Pixels``). Raises ConfigError for an odd patch, and where pictures are no whole ones.
    """

    def __init__(
        self,
        *,
        patch: int,
        channels: int,
        inner: int,
        width: int,
        groups: int,
        intervals: int = 128,
        values: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if patch < 2 or patch % 2:
            raise ConfigError(f"a patch must have an even side, found {patch}")
        self.patch, self.channels, self.intervals = patch, channels, intervals
        self.width = self.pooled_width = width
        self.values = values if values is not None else nn.Identity()
        self.stem = nn.Conv2d(channels, inner, 3, padding=1)
        self.block = PreActivation(
            width_in=inner, width=inner, stride=2, first=True, groups=groups, activation="gelu"
        )
        self.project = Linear(inner * (patch // 2) ** 2, width)
        self.row, self.column = (nn.Embedding(intervals, width) for _ in range(2))
        for table in (self.row, self.column):
            nn.init.normal_(table.weight, std=0.02)
        self.pool = MeanToken()

    def forward(self, values: Float[Tensor, "n h w c"], lengths: Int[Tensor, "n"]) -> Features:
        check_one_size(values, lengths)
        sides = values.shape[1:3]
        if any(side % self.patch for side in sides):
            raise ConfigError(f"patches of {self.patch} pixels do not fill pictures of {list(sides)}")
        grid = [side // self.patch for side in sides]
        cut = patches(self.values(values), [self.patch] * 2).unflatten(-1, (self.patch, self.patch, -1))
        x = self.project(self.block(self.stem(cut.flatten(0, 1).movedim(-1, 1))).flatten(1))
        rows, columns = (self._places(len(values), size, x.device) for size in grid)
        where = self.row(rows)[:, :, None] + self.column(columns)[:, None]
        x = x + where.flatten(0, 2)
        counts = lengths.new_full((len(values),), grid[0] * grid[1])
        return Features(x, counts, self.pool(x, counts))

    def _places(self, pictures: int, size: int, device: torch.device) -> Int[Tensor, "n p"]:
        """In which interval the patches along an axis of this size lie."""
        shape = (pictures, size)
        within = torch.rand(shape, device=device) if self.training else torch.full(shape, 0.5, device=device)
        return ((torch.arange(size, device=device) + within) / size * self.intervals).long()
