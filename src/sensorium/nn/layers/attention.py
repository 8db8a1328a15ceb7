"""Multi-head self-attention over torch's fused kernels.

Legend: m real tokens, b sequences, t tokens of the longest, d width, h heads, e = d/h.
"""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...core.errors import ConfigError
from .cache import KVCache
from .masks import Mask
from .packing import Packing


class SelfAttention(nn.Module):
    """Scaled dot-product self-attention (Vaswani et al. 2017, arXiv:1706.03762) with one fused projection."""

    def __init__(self, *, width: int, heads: int, bias: bool = True) -> None:
        super().__init__()
        if width % heads:
            raise ConfigError(f"attention width {width} is not a multiple of its {heads} heads")
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.out = nn.Linear(width, width, bias=bias)

    def forward(
        self, x_md: Float[Tensor, "m d"], packing: Packing, mask: Mask, cache: KVCache | None = None
    ) -> Float[Tensor, "m d"]:
        qkv_bt = packing.pad(self.qkv(x_md))
        b, t, _ = qkv_bt.shape
        q_bhte, k_bhte, v_bhte = qkv_bt.view(b, t, 3, self.heads, x_md.shape[1] // self.heads).permute(
            2, 0, 3, 1, 4
        )
        if cache is not None:
            k_bhte, v_bhte = cache.extend(k_bhte, v_bhte)
        allowed = None if mask.allowed is None else mask.allowed[:, None]
        y_bhte = F.scaled_dot_product_attention(
            q_bhte, k_bhte, v_bhte, attn_mask=allowed, is_causal=mask.causal
        )
        return self.out(packing.pack(y_bhte.transpose(1, 2).flatten(2)))
