"""The pre-norm transformer: a stack of blocks that can be run in parts, over packed rows of real tokens."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from .attention import SelfAttention
from .cache import KVCache
from .feed_forward import MLP, ModalityExperts
from .masks import Mask
from .packing import Packing


class Block(nn.Module):
    """Attention and feed-forward, each normalised before and added to the stream (pre-norm)."""

    def __init__(self, *, attention: nn.Module, feed_forward: nn.Module, width: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = attention
        self.norm_feed_forward = nn.LayerNorm(width)
        self.feed_forward = feed_forward

    def forward(
        self,
        x: Float[Tensor, "m d"],
        packing: Packing,
        mask: Mask,
        kind: Int[Tensor, "m"] | int = 0,
        cache: KVCache | None = None,
    ) -> Float[Tensor, "m d"]:
        x = x + self.attention(self.norm_attention(x), packing, mask, cache)
        return x + self.feed_forward(self.norm_feed_forward(x), kind)


class Transformer(nn.Module):
    """``depth`` equal blocks. ``experts`` > 0 gives each block one feed-forward per kind of token."""

    def __init__(self, *, width: int, depth: int, heads: int, ratio: float = 4.0, experts: int = 0) -> None:
        super().__init__()
        if depth < 1:
            raise ConfigError(f"a transformer needs a depth of at least 1, found {depth}")
        self.width, self.depth = width, depth
        hidden = int(width * ratio)
        self.blocks = nn.ModuleList(
            Block(
                attention=SelfAttention(width=width, heads=heads),
                feed_forward=ModalityExperts(width=width, hidden=hidden, experts=experts)
                if experts
                else MLP(width=width, hidden=hidden),
                width=width,
            )
            for _ in range(depth)
        )
        self._initialise()

    def _initialise(self) -> None:
        """Small normal weights; what writes to the residual stream is scaled down by depth (GPT-2)."""
        for name, parameter in self.named_parameters():
            if name.endswith("weight") and parameter.ndim == 2:
                writes = name.endswith(("out.weight", "down.weight"))
                spread = parameter.shape[1] ** -0.5 * ((2 * self.depth) ** -0.5 if writes else 1.0)
                nn.init.normal_(parameter, std=spread)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

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
        for index in range(start, self.depth if stop is None else stop):
            x = self.blocks[index](x, packing, mask, kind, caches[index] if caches is not None else None)
        return x

    def caches(self) -> list[KVCache]:
        """Empty caches, one per block."""
        return [KVCache() for _ in range(self.depth)]
