"""Features of a vision transformer from before its end: what language models are joined to."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...core.errors import ConfigError
from ..layers.masks import Mask
from ..layers.packing import dense
from .patch_tower import PatchTower
from .tower import Features, Tower, check_one_size


class LayerFeatures(Tower):
    """The tokens of ``tower`` after some of its blocks, side by side, without its last norm.

    ``layers`` counts states: 0 is what enters the first block, -1 what leaves the last, -2 what enters it (the choice
    of LLaVA, Liu et al. 2023, arXiv:2304.08485). ``leading`` keeps the tokens that are no patches. The pooled vector is
    the mean of a segment's tokens. Blocks after the last of ``layers`` are kept and never run. Raises ConfigError for
    layers that are not there.
    """

    def __init__(self, *, tower: PatchTower, layers: Sequence[int], leading: bool = False) -> None:
        super().__init__()
        states = tower.trunk.depth + 1
        if not layers or not all(-states <= layer < states for layer in layers):
            raise ConfigError(
                f"layers must be one or more of {-states} to {states - 1}, which this tower has, "
                f"found {list(layers)}"
            )
        self.tower, self.leading = tower, leading
        self.layers = [layer % states for layer in layers]
        self.width = self.pooled_width = len(layers) * tower.width

    def forward(self, values: Float[Tensor, "n *s c"], lengths: Int[Tensor, "n"]) -> Features:
        check_one_size(values, lengths)
        embedding = self.tower.embedding
        x = self._states(embedding(values), embedding.grid(values))
        if not self.leading:
            x = x[:, embedding.lead :]
        n, t, _ = x.shape
        return Features(x.flatten(0, 1), lengths.new_full((n,), t), x.mean(1))

    def _states(self, x: Float[Tensor, "n t d"], grid: tuple[int, ...]) -> Float[Tensor, "n t e"]:
        """The wanted states, side by side."""
        tower, packing = self.tower, dense(*x.shape[:2])
        bias = tower.relative(grid) if tower.relative is not None else None
        mask = Mask(grid=grid, bias=bias)
        rows, wanted = tower.norm_in(x).flatten(0, 1), {}
        for state in range(max(self.layers) + 1):
            if state:
                rows = tower.trunk(rows, packing, mask, start=state - 1, stop=state)
            if state in self.layers:
                wanted[state] = rows
        return torch.cat([wanted[layer] for layer in self.layers], dim=1).unflatten(0, x.shape[:2])
