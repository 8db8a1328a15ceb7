"""Keeping experts equally busy.

Legend: m tokens, n samples, e experts, k of them chosen for each token.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..core.batch import Batch
from ..core.outputs import Outputs, Route, Routes
from .objective import Objective


class BalancedExperts(Objective):
    """The number of experts times the sum over them of the share of tokens that is sent to one (k shares a token) and
    the mean share that its router gives it; over all layers together. It is at least about ``k``, where experts are
    equally busy (Switch Transformers, Fedus et al. 2021, arXiv:2101.03961).

    By default of each sample by itself, mean over samples (DeepSeek-V3, arXiv:2412.19437), so that parts of a batch add
    up to the whole. With ``together``, of all tokens of a forward pass, as first published: no sum over samples; as
    with BatchNorm, a batch in several micro-batches or on several ranks has one for each.
    """

    def __init__(self, *, weight: float = 0.001, together: bool = False) -> None:
        self.weight, self.together = weight, together

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"experts": len(batch)}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        found = outputs.routes
        if found is None or not found.layers:
            return {}
        if not self.together:
            return {"experts": _imbalances(found, found.owner).sum()}
        samples = len(found.owner.unique())
        return {"experts": samples * _imbalances(found, torch.zeros_like(found.owner)).sum()}


def _imbalances(found: Routes, group: Int[Tensor, "m"]) -> Float[Tensor, "n"]:
    """That of each group of tokens; 0 of an empty one."""
    groups = int(group.max()) + 1 if len(group) else 0
    sent, liked = (
        torch.stack(parts).sum(0)
        for parts in zip(*(_sums(layer, group, groups) for layer in found.layers), strict=True)
    )
    rows = group.bincount(minlength=groups).clamp(min=1)[:, None] * len(found.layers)
    return sent.shape[1] * (sent / rows * (liked / rows)).sum(1)


def _sums(
    layer: Route, group: Int[Tensor, "m"], groups: int
) -> tuple[Float[Tensor, "n e"], Float[Tensor, "n e"]]:
    """Of each group, how many tokens were sent to each expert, and the sum of the shares it was given; in single
    precision at least.
    """
    shares = layer.logits.softmax(1, dtype=torch.promote_types(layer.logits.dtype, torch.float32))
    sent = torch.zeros_like(shares).scatter_(1, layer.chosen, 1.0)
    nothing = shares.new_zeros(groups, shares.shape[1])
    return nothing.index_add(0, group, sent), nothing.index_add(0, group, shares)
