"""Next-token and masked-token logits from trunk features."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LanguageHead(nn.Module):
    """A final norm, then the similarity with every row of the (tied) embedding matrix (arXiv:1608.05859)."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(
        self, features: Float[Tensor, "*m d"], embedding: Float[Tensor, "v d"]
    ) -> Float[Tensor, "*m v"]:
        return F.linear(self.norm(features), embedding)
