"""An encoder of which only the vector of a whole segment is asked for."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from .tower import Features, Tower


class OneToken(Tower):
    """The pooled vector of each segment of ``tower`` as its only token: what contrastive models such as ImageBind
    (Girdhar et al. 2023, arXiv:2305.05665) give.
    """

    def __init__(self, *, tower: Tower) -> None:
        super().__init__()
        self.tower = tower
        self.width = self.pooled_width = tower.pooled_width

    def forward(self, values: Tensor, lengths: Int[Tensor, "n"]) -> Features:
        found = self.tower(values, lengths).pooled
        return Features(found, torch.ones_like(lengths), found)
