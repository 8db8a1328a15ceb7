"""One vector per segment by attention: a learned query looks at all tokens.

Legend: n segments, m real tokens in all, t tokens of the longest, d width, h heads, e width of a head.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ...core.product import linear
from ..layers.attention import attend
from ..layers.fused import FusedLinear
from ..layers.linear import Linear
from ..layers.masks import padding
from ..layers.packing import packing, real_places
from .pooling import Pooling


class AttentionPool(Pooling):
    """What one learned query sees of all tokens, plus a feed-forward of its norm (Lee et al. 2018, arXiv:1810.00825;
    the MAP head of Zhai et al. 2021, arXiv:2106.04560, and SigLIP).
    """

    def __init__(self, *, width: int, heads: int, norm: nn.Module, feed_forward: nn.Module) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"attention width {width} is not a multiple of its {heads} heads")
        self.width, self.heads = width, heads
        self.query = nn.Parameter(torch.randn(width) * width**-0.5)
        self.qkv = FusedLinear(width=width, parts=[width] * 3, biased=[True] * 3)
        self.out = Linear(width, width)
        self.norm, self.feed_forward = norm, feed_forward

    def forward(self, rows: Float[Tensor, "m d"], lengths: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        assert self.qkv.bias is not None
        real = real_places(lengths, int(lengths.max()) if len(lengths) else 0)
        q_weight, kv_weight = self.qkv.weight.split([self.width, 2 * self.width])
        q_bias, kv_bias = self.qkv.bias.split([self.width, 2 * self.width])
        q_h1e = linear(self.query, q_weight, q_bias).view(self.heads, 1, -1)
        kv_ntc = packing(real).pad(linear(rows, kv_weight, kv_bias))
        k_nhte, v_nhte = kv_ntc.unflatten(-1, (2 * self.heads, -1)).transpose(1, 2).chunk(2, dim=1)
        seen = attend(q_h1e.expand(len(lengths), -1, -1, -1), k_nhte, v_nhte, padding(real, queries=1))
        x = self.out(seen.flatten(1))
        return x + self.feed_forward(self.norm(x))
