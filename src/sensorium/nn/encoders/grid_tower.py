"""An encoder of grids with blocks of its own: a small tower for pictures, spectrograms, clips and sensor series.

Legend: n segments, t tokens of the longest, m real tokens in all, d width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..heads.pooling import Pooling
from ..layers.masks import padding
from ..layers.packing import packing, real_places
from ..layers.transformer import Transformer
from .grid import GridEncoder
from .tower import Features, Tower


class GridTower(Tower):
    """``encoder``, then ``trunk`` over each segment alone, then ``norm_out``; ``pool`` makes one vector of its tokens.

    Segments may differ along their first axis. Raises ConfigError where the widths differ.
    """

    def __init__(
        self,
        *,
        encoder: GridEncoder,
        trunk: Transformer,
        pool: Pooling,
        norm_out: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if encoder.width != trunk.width:
            raise ConfigError(f"the encoder has width {encoder.width}, the blocks after it {trunk.width}")
        self.encoder, self.trunk, self.pool = encoder, trunk, pool
        self.norm_out = norm_out if norm_out is not None else nn.Identity()
        self.width, self.pooled_width = trunk.width, pool.width

    def forward(self, values: Float[Tensor, "n *s c"], lengths: Int[Tensor, "n"]) -> Features:
        whole = torch.zeros_like(lengths, dtype=torch.bool)  # nothing is masked
        encoded = self.encoder(values, lengths, whole, torch.zeros_like(lengths))
        real = real_places(encoded.lengths, encoded.tokens.shape[1])
        place = packing(real)
        rows = self.norm_out(self.trunk(place.pack(encoded.tokens), place, padding(real)))
        return Features(rows, encoded.lengths, self.pool(rows, encoded.lengths))
