"""Multi-head attention over torch's fused kernels, of a sequence over itself or over another.

Legend: m real tokens, b sequences, t tokens of the longest, s those looked at, d width, h heads of queries, g heads
of keys and values, e width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from .cache import KVCache
from .flex import attend_blocks, pays
from .fused import FusedLinear
from .linear import Linear
from .masks import Mask
from .packing import Packing
from .rotary import Rotary, Turns
from .softcap import attend_softcapped


class SelfAttention(nn.Module):
    """Scaled dot-product self-attention (Vaswani et al. 2017, arXiv:1706.03762) with one fused projection.

    ``groups`` heads of keys and values are shared by the ``heads`` of queries: equal numbers are plain multi-head,
    1 is multi-query (arXiv:1911.02150), others are grouped-query attention (arXiv:2305.13245). ``biases`` names the
    projections that have one, of ``qkvo``. ``scale`` multiplies the products of queries and keys; by default it is
    ``head_width ** -0.5``. ``rotary`` turns queries and keys by their places (see ``Rotary``); ``relative`` gives
    numbers to add to the products, for tokens that lie on a grid (see ``RelativeTable``). ``norm_query`` and
    ``norm_key`` see the vectors of each head, before they are turned. With a ``window``, tokens look less than that
    many places away. With a ``softcap``, products are bent by ``softcap * tanh(product / softcap)`` (see
    ``attend_softcapped``). ``dropout`` leaves out weights in training. Raises ConfigError for a width, heads, biases, a
    window or a softcap that cannot be.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        groups: int | None = None,
        head_width: int | None = None,
        biases: str = "qkvo",
        scale: float | None = None,
        rotary: Rotary | None = None,
        relative: nn.Module | None = None,
        norm_query: nn.Module | None = None,
        norm_key: nn.Module | None = None,
        window: int | None = None,
        softcap: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.groups, self.head_width = _heads(width, heads, groups, head_width)
        _check_biases(biases)
        if window is not None and window < 1:
            raise ConfigError(f"an attention window must be at least 1, found {window}")
        if softcap is not None and softcap <= 0:
            raise ConfigError(f"an attention softcap must be above 0, found {softcap}")
        self.scale, self.window, self.softcap, self.dropout = scale, window, softcap, dropout
        whole, shared = self.heads * self.head_width, self.groups * self.head_width
        self.qkv = FusedLinear(
            width=width, parts=[whole, shared, shared], biased=[part in biases for part in "qkv"]
        )
        self.out = Linear(whole, width, bias="o" in biases)
        self.rotary, self.relative = rotary, relative
        self.norm_query, self.norm_key = norm_query, norm_key

    def forward(
        self, x_md: Float[Tensor, "m d"], packing: Packing, mask: Mask, cache: KVCache | None = None
    ) -> Float[Tensor, "m d"]:
        qkv_bthe = packing.pad(self.qkv(x_md)).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
        q_bhte, k_bgte, v_bgte = qkv_bthe.split([self.heads, self.groups, self.groups], dim=1)
        if self.norm_query is not None:
            q_bhte = self.norm_query(q_bhte)
        if self.norm_key is not None:
            k_bgte = self.norm_key(k_bgte)
        if self.rotary is not None:
            q_bhte, k_bgte = self.rotary.turn(
                q_bhte, k_bgte, _turns(self.rotary, q_bhte, packing, mask, cache)
            )
        if cache is not None:
            reach = mask.reach if mask.places is not None else 0
            k_bgte, v_bgte = cache.extend(k_bgte, v_bgte, mask.places, reach)
        bias = self.relative(mask.grid) if self.relative is not None else None
        y_bhte = attend(
            q_bhte,
            k_bgte,
            v_bgte,
            mask.within(self.window),
            bias=bias,
            scale=self.scale,
            softcap=self.softcap,
            dropout=self.dropout * self.training,
        )
        return self.out(packing.pack(y_bhte.transpose(1, 2).flatten(2)))


class CrossAttention(nn.Module):
    """Attention of one sequence over another, of ``context_width``; the rest is as in ``SelfAttention``."""

    def __init__(
        self,
        *,
        width: int,
        context_width: int,
        heads: int,
        groups: int | None = None,
        head_width: int | None = None,
        biases: str = "qkvo",
        scale: float | None = None,
        norm_query: nn.Module | None = None,
        norm_key: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.groups, self.head_width = _heads(width, heads, groups, head_width)
        _check_biases(biases)
        self.scale, self.dropout = scale, dropout
        whole, shared = self.heads * self.head_width, self.groups * self.head_width
        self.q = Linear(width, whole, bias="q" in biases)
        self.kv = FusedLinear(
            width=context_width, parts=[shared, shared], biased=[part in biases for part in "kv"]
        )
        self.out = Linear(whole, width, bias="o" in biases)
        self.norm_query, self.norm_key = norm_query, norm_key

    def forward(
        self,
        x_btd: Float[Tensor, "b t d"],
        context_bsc: Float[Tensor, "b s c"],
        mask: Mask,
    ) -> Float[Tensor, "b t d"]:
        return self.look(x_btd, self.context(context_bsc), mask)

    def context(
        self, context_bsc: Float[Tensor, "b s c"]
    ) -> tuple[Float[Tensor, "b g s e"], Float[Tensor, "b g s e"]]:
        """The keys and values of what is looked at, which those who look at it more than once may keep."""
        kv_bhse = self.kv(context_bsc).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
        k_bgse, v_bgse = kv_bhse.chunk(2, dim=1)
        return (k_bgse if self.norm_key is None else self.norm_key(k_bgse)), v_bgse

    def look(
        self,
        x_btd: Float[Tensor, "b t d"],
        context: tuple[Float[Tensor, "b g s e"], Float[Tensor, "b g s e"]],
        mask: Mask,
    ) -> Float[Tensor, "b t d"]:
        """What is found among keys and values that ``context`` gave."""
        q_bhte = self.q(x_btd).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        if self.norm_query is not None:
            q_bhte = self.norm_query(q_bhte)
        y_bhte = attend(q_bhte, *context, mask, scale=self.scale, dropout=self.dropout * self.training)
        return self.out(y_bhte.transpose(1, 2).flatten(2))


def attend(
    q_bhte: Float[Tensor, "b h t e"],
    k_bgse: Float[Tensor, "b g s e"],
    v_bgse: Float[Tensor, "b g s e"],
    mask: Mask,
    *,
    bias: Float[Tensor, "*b h t s"] | None = None,
    scale: float | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Float[Tensor, "b h t e"]:
    """Weighted sums of values under a mask, with ``bias`` (and that of the mask) added to the scaled products."""
    if softcap is None and pays(q_bhte, k_bgse, mask, dropout):
        return attend_blocks(q_bhte, k_bgse, v_bgse, mask, bias=bias, scale=scale)
    if mask.parts is not None and bias is None and mask.bias is None:
        parts = (x.split(mask.parts, dim=2) for x in (q_bhte, k_bgse, v_bgse))
        return torch.cat(
            [
                attend(q, k, v, mask.part, scale=scale, softcap=softcap, dropout=dropout)
                for q, k, v in zip(*parts, strict=True)
            ],
            dim=2,
        )
    allowed, causal = mask.dense(q_bhte.shape[2], k_bgse.shape[2], q_bhte, bias)
    if softcap is not None:
        return attend_softcapped(
            q_bhte, k_bgse, v_bgse, allowed, causal=causal, softcap=softcap, scale=scale, dropout=dropout
        )
    y_bhte = F.scaled_dot_product_attention(
        q_bhte,
        k_bgse,
        v_bgse,
        attn_mask=allowed,
        dropout_p=dropout,
        is_causal=causal,
        scale=scale,
        enable_gqa=q_bhte.shape[1] != k_bgse.shape[1],
    )
    if len(q_bhte):
        return y_bhte
    # Without rows torch's kernel forgets what is added, which must have a gradient on every rank or on none.
    return sum((added.sum() for added in (bias, mask.bias) if added is not None), y_bhte)


def _turns(
    rotary: Rotary, q_bhte: Float[Tensor, "b h t e"], packing: Packing, mask: Mask, cache: KVCache | None
) -> Turns:
    """By how much the queries turn, computed once in a pass for all layers that are alike."""
    past = 0 if cache is None else cache.length
    key = rotary.key, past, q_bhte.shape[2], q_bhte.dtype, q_bhte.device

    def turns() -> Turns:
        lengths = _lengths(packing, mask, q_bhte.device) if rotary.by_length else None
        return rotary.turns(_places(q_bhte, mask, cache), q_bhte.dtype, lengths)

    return mask.once(key, turns)


def _lengths(packing: Packing, mask: Mask, device: torch.device) -> Int[Tensor, "#b #t"] | None:
    """How long the sequence is that each query is of, where the largest of its places does not tell."""
    if mask.parts is not None:
        sizes = torch.tensor(mask.parts, device=device)
        return sizes.repeat_interleave(sizes)[None]
    if mask.positions is None and mask.places is None and packing.index is not None:
        return packing.owners(device).bincount(minlength=packing.sequences)[:, None]
    return None


def _places(q_bhte: Float[Tensor, "b h t e"], mask: Mask, cache: KVCache | None) -> Int[Tensor, "#b t *axes"]:
    """Where the queries stand: as the mask says, or counted on from what the cache holds."""
    if mask.positions is not None:
        return mask.positions
    if mask.places is not None:
        return mask.places
    past = 0 if cache is None else cache.length
    return torch.arange(past, past + q_bhte.shape[2], device=q_bhte.device)[None]


def _heads(width: int, heads: int, groups: int | None, head_width: int | None) -> tuple[int, int, int]:
    if head_width is None and width % heads:
        raise ConfigError(f"attention width {width} is not a multiple of its {heads} heads")
    groups = heads if groups is None else groups
    if groups < 1 or heads % groups:
        raise ConfigError(f"{heads} heads of queries cannot share {groups} heads of keys and values equally")
    return heads, groups, width // heads if head_width is None else head_width


def _check_biases(biases: str) -> None:
    if not set(biases) <= set("qkvo"):
        raise ConfigError(f"attention has biases of the projections qkvo, found {biases!r}")
