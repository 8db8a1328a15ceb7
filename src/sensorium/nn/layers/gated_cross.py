"""Layers through which the words of a language model look at other rows, opened by a gate that starts at zero.

Legend: m words in all, b sequences, t words of the longest, s rows of the longest, d and c widths, g heads, e width of
a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ...core.spec import Spec
from .attention import CrossAttention, SelfAttention
from .blocks import Kind, PreNorm
from .cache import KVCache
from .masks import Mask, Rule
from .packing import Packing

#: The keys and values of rows.
Read = tuple[Float[Tensor, "b g s e"], Float[Tensor, "b g s e"]]


@dataclass(frozen=True)
class Sight:
    """Which rows each word may look at. Made once for all layers."""

    allowed: Bool[Tensor, "b t s"]

    @cached_property
    def sees(self) -> Bool[Tensor, "b t 1"]:
        """The words that see anything at all."""
        return self.allowed.any(2, keepdim=True)

    @cached_property
    def mask(self) -> Mask:
        """A word that sees nothing looks at everything, since a row without any key would be undefined."""
        shown, (sequences, words, keys) = self.allowed | ~self.sees, self.allowed.shape
        rule = Rule(lambda b, q, k: shown[b, q, k], sequences, words, keys, shown.device)
        return Mask(rule=rule)

    def select(self, rows: Int[Tensor, "k"]) -> Sight:
        """That of some of the sequences."""
        return Sight(self.allowed[rows])


class GatedCrossAttention(nn.Module):
    """Cross-attention and a feed-forward, each times the tanh of a learned gate (Flamingo, Alayrac et al. 2022,
    arXiv:2204.14198). Words that see nothing get nothing from the attention, as in IDEFICS (arXiv:2306.16527).

    A gate is ``gate_width`` numbers, 1 or one for each channel, which start normally distributed around ``gate_mean``:
    at zero, the layer changes nothing. ``norm`` is built for each of the two. Raises ConfigError for gates that fit no
    row.
    """

    def __init__(
        self,
        *,
        norm: Spec,
        attention: CrossAttention,
        feed_forward: nn.Module,
        gate_width: int = 1,
        gate_mean: float = 0.0,
        gate_std: float = 0.0,
    ) -> None:
        super().__init__()
        width = attention.out.out_features
        if gate_width not in (1, width):
            raise ConfigError(f"gate_width must be 1 or the width of the words, {width}, found {gate_width}")
        self.norm_attention, self.norm_feed_forward = norm.build(), norm.build()
        self.attention, self.feed_forward = attention, feed_forward
        self.gate_attention, self.gate_feed_forward = (
            nn.Parameter(gate_mean + gate_std * torch.randn(gate_width)) for _ in range(2)
        )

    def read(self, rows: Float[Tensor, "b s c"]) -> Read:
        """What is kept of the rows that are looked at."""
        return self.attention.context(rows)

    def forward(
        self, x: Float[Tensor, "m d"], packing: Packing, read: Read, sight: Sight
    ) -> Float[Tensor, "m d"]:
        words = packing.pad(self.norm_attention(x))
        seen = self.attention.look(words, read, sight.mask).masked_fill(~sight.sees, 0.0)
        x = x + self.gate_attention.tanh() * packing.pack(seen)
        return x + self.gate_feed_forward.tanh() * self.feed_forward(self.norm_feed_forward(x))


class Crossing(KVCache):
    """The past of a ``CrossedBlock``, and what its words look at: ``read``, made once.

    The first words, those of a prompt, see what ``sight`` says, and all that follow what ``after`` says, for one word
    at a time. Without ``after``, nothing follows and nothing is kept.
    """

    def __init__(self, read: Read, sight: Sight, after: Sight | None = None, *, room: int = 0) -> None:
        super().__init__(room, keeps=after is not None)
        self.read, self.sight, self._after = read, sight, after

    def extend(
        self,
        keys: Float[Tensor, "b g t e"],
        values: Float[Tensor, "b g t e"],
        places: Int[Tensor, "b t"] | None = None,
        reach: int = 0,
    ) -> tuple[Float[Tensor, "b g s e"], Float[Tensor, "b g s e"]]:
        if self._after is not None:
            self.sight = self._after
        return super().extend(keys, values, places, reach)

    def select(self, rows: Int[Tensor, "k"]) -> None:
        super().select(rows)
        keys, values = self.read
        self.read, self.sight = (keys[rows], values[rows]), self.sight.select(rows)
        self._after = self.sight


class CrossedBlock(PreNorm):
    """A block whose words look at other rows through ``cross`` before anything else; its cache is a ``Crossing``."""

    def __init__(
        self,
        *,
        norm: Spec,
        attention: SelfAttention,
        feed_forward: nn.Module,
        cross: GatedCrossAttention,
        branch: Spec | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(
            norm=norm, attention=attention, feed_forward=feed_forward, branch=branch, drop_path=drop_path
        )
        self.cross = cross

    def forward(
        self, x: Tensor, packing: Packing, mask: Mask, kind: Kind = 0, cache: KVCache | None = None
    ) -> Tensor:
        assert isinstance(cache, Crossing)
        return super().forward(self.cross(x, packing, cache.read, cache.sight), packing, mask, kind, cache)
