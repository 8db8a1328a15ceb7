"""From a tower's pooled vector to the space in which modalities are compared."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ..layers.activations import activation as by_name
from ..layers.linear import Linear


class LinearProjection(nn.Module):
    """One linear map."""

    def __init__(self, *, width: int, embedding: int, bias: bool = False) -> None:
        super().__init__()
        self.project = Linear(width, embedding, bias=bias)

    def forward(self, pooled: Float[Tensor, "n p"]) -> Float[Tensor, "n e"]:
        return self.project(pooled)


class MLPProjection(nn.Module):
    """Two linear maps around a nonlinearity."""

    def __init__(self, *, width: int, embedding: int, activation: str = "relu") -> None:
        super().__init__()
        self.up = Linear(width, embedding)
        self.activation = by_name(activation)
        self.down = Linear(embedding, embedding)

    def forward(self, pooled: Float[Tensor, "n p"]) -> Float[Tensor, "n e"]:
        return self.down(self.activation(self.up(pooled)))


class NoProjection(nn.Module):
    """The pooled vector as it is."""

    def forward(self, pooled: Float[Tensor, "n p"]) -> Float[Tensor, "n e"]:
        return pooled
