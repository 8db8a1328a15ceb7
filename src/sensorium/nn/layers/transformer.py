"""The transformer: a stack of blocks that can be run in parts, over packed rows of real tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...core.errors import ConfigError
from ...core.spec import Spec
from .cache import KVCache
from .fused import FusedLinear
from .masks import Mask
from .packing import Packing


class Transformer(nn.Module):
    """``depth`` blocks made from the Spec of a ``Block``, or from several in turn, again and again.

    ``drop_path`` is the rate of the last block, at least 0 and below 1; it grows linearly from 0 at the first. With
    ``recompute``, the backward pass of training computes each block again instead of holding what is inside it (Chen
    et al. 2016, arXiv:1604.06174): a third more time for much less memory, and the same gradients.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        block: Spec | list[Spec],
        drop_path: float = 0.0,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if depth < 0:
            raise ConfigError(f"a transformer needs a depth of at least 0, found {depth}")
        self.width, self.depth, self.recompute = width, depth, recompute
        rates = [drop_path * index / max(depth - 1, 1) for index in range(depth)]
        kinds = block if isinstance(block, list) else [block]
        if not kinds:
            raise ConfigError("a transformer needs the Spec of a block, found an empty list")
        self.blocks = nn.ModuleList(
            kind.replace(drop_path=rate).build() for rate, kind in zip(rates, cycle(kinds), strict=False)
        )
        self._initialise()

    def _initialise(self) -> None:
        """Small normal weights; what writes to the residual stream is scaled down by depth (GPT-2)."""
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Linear | FusedLinear):
                writes = name.endswith(("out", "down"))
                spread = layer.weight.shape[1] ** -0.5 * ((2 * self.depth) ** -0.5 if writes else 1.0)
                nn.init.normal_(layer.weight, std=spread)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(
        self,
        x: Float[Tensor, "m d"],
        packing: Packing,
        mask: Mask,
        *,
        kind: Int[Tensor, "m"] | int = 0,
        caches: Sequence[KVCache] | None = None,
        start: int = 0,
        stop: int | None = None,
    ) -> Float[Tensor, "m d"]:
        """Run blocks ``start`` to ``stop``; ``caches`` has one entry per block of the whole stack."""
        again = self.recompute and self.training and torch.is_grad_enabled() and caches is None
        for index in range(start, self.depth if stop is None else stop):
            block = self.blocks[index]
            if again:
                x = checkpoint(block, x, packing, mask, kind, use_reentrant=False)
            else:
                x = block(x, packing, mask, kind, caches[index] if caches is not None else None)
        return x

    def caches(self, room: int = 0) -> list[KVCache]:
        """Empty caches, one per block, with ``room`` for so many tokens at first."""
        return [KVCache(room) for _ in range(self.depth)]
