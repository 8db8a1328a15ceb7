"""A student's similarities between modalities are to be distributed like its teacher's."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import ConfigError
from ..core.product import product
from .across import gather_fixed
from .pair import Pair, Pairwise
from .tiles import blocks, exp_


class Affinity(Pairwise):
    """Kullback-Leibler divergence from the teacher's softmax over similarities to the student's, both directions
    averaged (affinity mimicking: TinyCLIP, Wu et al. 2023, arXiv:2309.12314; MobileCLIP, Vasu et al. 2023,
    arXiv:2311.17049). Widths may differ: only similarities meet.

    Each has its own temperature. Raises ConfigError for a model without a teacher of both modalities.
    """

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        teacher = pair.teacher
        if teacher is None:
            raise ConfigError(
                "Affinity needs a model with a teacher that has a scale and embeds both modalities"
            )
        with torch.no_grad():
            rows, own = teacher.log_sums()
            columns = gather_fixed(own, pair.exchange)
        agreement, certainty = _Agreement.apply(
            pair.a, pair.everyone, teacher.a, teacher.everyone, teacher.scale, rows, columns, pair.tile
        )
        mine = sum(sums.sum() for sums in pair.log_sums())
        cross = mine - pair.scale * agreement
        entropy = rows.sum() + own.sum() - certainty
        return (cross - entropy) / (2 * pair.count)


class _Agreement(torch.autograd.Function):
    """The products ``a b'`` of the student, and the logits of the teacher, each summed with the teacher's
    probabilities along rows plus those along columns.
    """

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        teacher_a: Tensor,
        teacher_b: Tensor,
        scale: Tensor,
        rows: Tensor,
        columns: Tensor,
        tile: int,
    ) -> tuple[Tensor, Tensor]:
        to_a, to_b = torch.zeros_like(a), torch.zeros_like(b) if ctx.needs_input_grad[1] else None
        certainty = a.new_zeros(())
        for r, c, logits in blocks(teacher_a, teacher_b, scale, tile=tile):
            weights = exp_(logits - rows[r, None]).add_(exp_(logits - columns[c]))
            certainty += (weights * logits).sum()
            to_a[r] += product(weights, b[c].T)
            if to_b is not None:
                to_b[c] += product(weights.T, a[r].T)
        ctx.save_for_backward(to_a, to_b)
        ctx.mark_non_differentiable(certainty)
        return (to_a * a).sum(), certainty

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        to_a, to_b = ctx.saved_tensors
        to_b = gradients[0] * to_b if to_b is not None else None
        return gradients[0] * to_a, to_b, None, None, None, None, None, None
