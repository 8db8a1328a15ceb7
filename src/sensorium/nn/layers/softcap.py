"""Attention whose products are bent into a range before they become weights, which torch's fused kernels do not do.

Legend: b sequences, t tokens, s those looked at, h heads of queries, g heads of keys and values, e width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor


def attend_softcapped(
    q_bhte: Float[Tensor, "b h t e"],
    k_bgse: Float[Tensor, "b g s e"],
    v_bgse: Float[Tensor, "b g s e"],
    mask: Bool[Tensor, "#b #h t s"] | Float[Tensor, "#b #h t s"] | None,
    *,
    causal: bool,
    softcap: float,
    scale: float | None,
    dropout: float,
) -> Float[Tensor, "b h t e"]:
    """What ``scaled_dot_product_attention`` gives, of ``softcap * tanh(products / softcap)`` (Gemma 2,
    arXiv:2408.00118). ``mask`` says which pairs there are, or is added to what was bent; with ``causal``, nothing looks
    at what is later. The products of all pairs are in memory at once.
    """
    groups, tokens, keys = k_bgse.shape[1], q_bhte.shape[2], k_bgse.shape[2]
    scale = q_bhte.shape[-1] ** -0.5 if scale is None else scale
    # The queries that share a head of keys are rows of one product.
    q_bgre = q_bhte.unflatten(1, (groups, -1)).flatten(2, 3)
    products = ((q_bgre @ k_bgse.transpose(2, 3)) * (scale / softcap)).tanh() * softcap
    products = products.unflatten(2, (-1, tokens)).flatten(1, 2)
    if causal:
        mask = torch.ones(tokens, keys, dtype=torch.bool, device=q_bhte.device).tril()
    if mask is not None:
        products = products.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else products + mask
    weights = F.dropout(products.softmax(-1), dropout)
    return (
        (weights.unflatten(1, (groups, -1)).flatten(2, 3) @ v_bgse).unflatten(2, (-1, tokens)).flatten(1, 2)
    )
