"""Attention that never computes the blocks of a mask in which nobody may look at anybody (FlexAttention, Dong et al.
2024, arXiv:2412.05496), for long sequences on a GPU.

Legend: b sequences, h heads of queries, g heads of keys and values, t queries, s keys, e width of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from .masks import Mask

SMALLEST = 1024 * 1024  # pairs of queries and keys, below which the dense kernel is as fast


def pays(
    q_bhte: Float[Tensor, "b h t e"], k_bgse: Float[Tensor, "b g s e"], mask: Mask, dropout: float
) -> bool:
    """Whether the blocks of this mask are worth making: a large one given as data, on a GPU, without dropout."""
    return (
        q_bhte.is_cuda
        and any(one is not None for one in (mask.rule, mask.also, mask.parts, mask.near))
        and dropout == 0
        and q_bhte.shape[2] * k_bgse.shape[2] >= SMALLEST
    )


def attend_blocks(
    q_bhte: Float[Tensor, "b h t e"],
    k_bgse: Float[Tensor, "b g s e"],
    v_bgse: Float[Tensor, "b g s e"],
    mask: Mask,
    *,
    bias: Float[Tensor, "*b h t s"] | None = None,
    scale: float | None = None,
    kernel: Callable[..., Tensor] | None = None,
) -> Float[Tensor, "b h t e"]:
    """What ``attend`` gives, for a mask with a rule; ``kernel`` is ``flex_attention`` itself, compiled by default."""
    whole = mask.joined(q_bhte.shape[2], k_bgse.shape[2], q_bhte.device)
    assert whole is not None
    if mask.bias is not None:
        bias = mask.bias if bias is None else bias + mask.bias
    return (kernel or _compiled())(
        q_bhte,
        k_bgse,
        v_bgse,
        score_mod=None if bias is None else _adding(bias.expand(*q_bhte.shape[:3], k_bgse.shape[2])),
        block_mask=whole.blocks,
        scale=scale,
        enable_gqa=q_bhte.shape[1] != k_bgse.shape[1],
    )


def _adding(bias: Float[Tensor, "b h t s"]) -> Callable[..., Tensor]:
    def added(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return score + bias[b, h, q, k].to(score.dtype)

    return added


@cache
def _compiled() -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention)
