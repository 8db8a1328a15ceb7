"""From the features of visible patches to what all patches are.

Legend: n segments, k visible tokens, t patches of the grid, d width, m chosen patches in all, p values of a patch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ..layers.linear import Linear
from ..layers.masks import everything
from ..layers.packing import dense
from ..layers.transformer import Transformer


class PatchDecoder(nn.Module):
    """A light transformer over all places, a learned token standing where nothing was visible (MAE, He et al. 2021,
    arXiv:2111.06377).

    ``features`` is the width of what comes in, the first ``leading`` tokens of which have no place; ``positions`` is
    called with the grid and gives vectors for those and all places. ``bias`` is that of the map into the decoder.
    """

    def __init__(
        self,
        *,
        features: int,
        leading: int,
        patch_width: int,
        positions: nn.Module,
        trunk: Transformer,
        norm: nn.Module,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.leading = leading
        self.embed = Linear(features, trunk.width, bias=bias)
        self.mask_token = nn.Parameter(torch.randn(trunk.width) * 0.02)
        self.positions, self.trunk, self.norm = positions, trunk, norm
        self.project = Linear(trunk.width, patch_width)

    def forward(
        self,
        visible: Float[Tensor, "n k d"],
        masked: Bool[Tensor, "n t"],
        grid: Sequence[int],
        chosen: Bool[Tensor, "n t"] | None = None,
    ) -> Float[Tensor, "m p"]:
        """Predictions for the ``chosen`` patches, or all, one segment after the other."""
        n, t = masked.shape
        x = self.embed(visible)
        empty = self.mask_token.to(x.dtype).expand(n, t, -1)
        places = empty.masked_scatter(~masked[..., None], x[:, self.leading :])
        x = torch.cat([x[:, : self.leading], places], dim=1) + self.positions(grid)
        rows = self.trunk(x.flatten(0, 1), dense(n, self.leading + t), everything())
        rows = rows.unflatten(0, (n, self.leading + t))[:, self.leading :]
        return self.project(self.norm(rows.flatten(0, 1) if chosen is None else rows[chosen]))
