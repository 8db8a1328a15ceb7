"""Values of masked patches from trunk features."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from ..layers.linear import Linear


class PatchHead(nn.Module):
    """A norm and one linear map to the values of a patch (SimMIM, arXiv:2111.09886)."""

    def __init__(self, *, width: int, patch_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.project = Linear(width, patch_width)

    def forward(self, features: Float[Tensor, "m d"]) -> Float[Tensor, "m p"]:
        return self.project(self.norm(features))
