"""Whether each token is the original one."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ..layers.activations import activation as by_name
from ..layers.linear import Linear


class ReplacedTokenHead(nn.Module):
    """A linear map, a nonlinearity, and the logit of "replaced" (ELECTRA, Clark et al. 2020, arXiv:2003.10555)."""

    def __init__(self, *, width: int, activation: str = "gelu") -> None:
        super().__init__()
        self.dense = Linear(width, width)
        self.activation = by_name(activation)
        self.project = Linear(width, 1)

    def forward(self, features: Float[Tensor, "m d"]) -> Float[Tensor, "m"]:
        return self.project(self.activation(self.dense(features)))[:, 0]
