"""Feed-forward layers, row by row: a plain one, and one expert per kind of token."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class MLP(nn.Module):
    """Two linear layers around a GELU. ``kind`` is ignored, so that it can stand where experts may."""

    def __init__(self, *, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.activation = nn.GELU(approximate="tanh")
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Float[Tensor, "m d"], kind: Int[Tensor, "m"] | int) -> Float[Tensor, "m d"]:
        return self.down(self.activation(self.up(x)))


class ModalityExperts(nn.Module):
    """One feed-forward per kind of token, routed by the kind itself: hard, without a learned gate.

    The mixture of modality experts of VLMo (Bao et al. 2021, arXiv:2111.02358). ``kind`` is an integer for
    all rows or one per row, in ``range(experts)``. Every expert runs, if need be on no rows, so that all ranks agree.
    """

    def __init__(self, *, width: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(MLP(width=width, hidden=hidden) for _ in range(experts))

    def forward(self, x: Float[Tensor, "m d"], kind: Int[Tensor, "m"] | int) -> Float[Tensor, "m d"]:
        if isinstance(kind, int):
            return self.experts[kind](x, kind)
        places = [(kind == index).nonzero()[:, 0] for index in range(len(self.experts))]
        rows = [
            expert(x[place], index)
            for index, (expert, place) in enumerate(zip(self.experts, places, strict=True))
        ]
        return torch.empty_like(x).index_copy(0, torch.cat(places), torch.cat(rows).to(x.dtype))
