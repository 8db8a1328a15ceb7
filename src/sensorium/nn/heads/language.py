"""Next-token and masked-token logits from trunk features."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...core.product import linear
from ..layers.activations import activation as by_name
from ..layers.linear import Linear
from ..layers.norms import LayerNorm


class LanguageHead(nn.Module):
    """A final norm, then the similarity with every row of the (tied) embedding matrix (arXiv:1608.05859)."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)

    def forward(
        self, features: Float[Tensor, "*m d"], embedding: Float[Tensor, "v d"]
    ) -> Float[Tensor, "*m v"]:
        return linear(self.norm(features), embedding)


class MaskedLanguageHead(nn.Module):
    """A linear map, a nonlinearity and a norm, then the similarity with every row of the (tied) embedding matrix,
    plus one learned number per token (BERT, Devlin et al. 2018, arXiv:1810.04805).

    ``embedding`` is the width of the matrix, where it is not ``width`` (ELECTRA).
    """

    def __init__(
        self,
        *,
        width: int,
        vocabulary: int,
        embedding: int | None = None,
        activation: str = "gelu",
        eps: float = 1e-12,
    ) -> None:
        super().__init__()
        embedding = width if embedding is None else embedding
        self.dense = Linear(width, embedding)
        self.activation = by_name(activation)
        self.norm = LayerNorm(width=embedding, eps=eps)
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(
        self, features: Float[Tensor, "*m d"], embedding: Float[Tensor, "v e"]
    ) -> Float[Tensor, "*m v"]:
        return linear(self.norm(self.activation(self.dense(features))), embedding, self.bias)
