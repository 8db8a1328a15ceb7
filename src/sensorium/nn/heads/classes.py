"""One score per class from a pooled vector."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ..layers.linear import Linear


class ClassHead(nn.Module):
    """A linear map to logits; ``dropout`` is applied before it in training."""

    def __init__(self, *, width: int, classes: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.project = Linear(width, classes)

    def forward(self, pooled: Float[Tensor, "n p"]) -> Float[Tensor, "n classes"]:
        return self.project(self.dropout(pooled))
