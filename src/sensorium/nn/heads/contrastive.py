"""Unit-length vectors in one space for every modality."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..layers.linear import Linear


class ContrastiveHead(nn.Module):
    """Mean of the real tokens, normalised and projected by one linear map per modality (CLIP, arXiv:2103.00020).

    ``scale`` is the learned inverse temperature, at most 100.
    """

    def __init__(self, *, width: int, embedding: int, names: Sequence[str]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.project = nn.ModuleDict({name: Linear(width, embedding, bias=False) for name in names})
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def scale(self) -> Float[Tensor, ""]:
        return self.log_scale.clamp(max=math.log(100.0)).exp()

    def forward(
        self, name: str, rows: Float[Tensor, "m d"], lengths: Int[Tensor, "n"]
    ) -> Float[Tensor, "n e"]:
        """``rows`` are the tokens of ``n`` segments, one segment after the other."""
        segment = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
        normed = self.norm(rows)
        pooled = (
            normed.new_zeros(len(lengths), normed.shape[1]).index_add(0, segment, normed) / lengths[:, None]
        )
        return F.normalize(self.project[name](pooled).float(), dim=-1)
