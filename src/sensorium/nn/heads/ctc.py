"""What each frame of a recording says."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ..layers.linear import Linear


class CTCHead(nn.Module):
    """Logits over ``vocabulary`` tokens, one of which is the blank, by one linear map after ``dropout``."""

    def __init__(self, *, width: int, vocabulary: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.project = Linear(width, vocabulary)

    def forward(self, rows: Float[Tensor, "m d"]) -> Float[Tensor, "m vocabulary"]:
        return self.project(self.dropout(rows))
