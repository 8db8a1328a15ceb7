"""Layers through which the words of a language model look at other rows, opened by a gate that starts at zero.

Legend: m words in all, b sequences, t words of the longest, k rows in all, s rows of the longest, d and c widths.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ...core.errors import ConfigError
from ...core.spec import Spec
from .attention import CrossAttention
from .masks import Mask, Rule
from .packing import Packing


@dataclass(frozen=True)
class Sight:
    """What words may look at: rows, padded, who looks at which, and the words that see anything at all.

    Made once (see ``sight``) for all layers.
    """

    context: Float[Tensor, "b s c"]
    mask: Mask
    sees: Bool[Tensor, "b t 1"]


def sight(rows: Float[Tensor, "k c"], packing: Packing, allowed: Bool[Tensor, "b t s"]) -> Sight:
    """Of packed ``rows``, those are seen that ``allowed`` says, by each word of a sequence."""
    sees = allowed.any(2, keepdim=True)
    # A word that sees nothing looks at everything, since a row without any key would be undefined, and is zeroed.
    shown, (sequences, words, keys) = allowed | ~sees, allowed.shape
    rule = Rule(lambda b, q, k: shown[b, q, k], sequences, words, keys, allowed.device)
    return Sight(packing.pad(rows), Mask(rule=rule), sees)


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

    def forward(self, x: Float[Tensor, "m d"], packing: Packing, sight: Sight) -> Float[Tensor, "m d"]:
        words = packing.pad(self.norm_attention(x))
        seen = self.attention(words, sight.context, sight.mask).masked_fill(~sight.sees, 0.0)
        x = x + self.gate_attention.tanh() * packing.pack(seen)
        return x + self.gate_feed_forward.tanh() * self.feed_forward(self.norm_feed_forward(x))
