"""Two maps of features become one by shares that the network chooses, for each place and channel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .norms import BatchNorm


class AttentionalFusion(nn.Module):
    """``2 (s a + (1 - s) b)``, where the share ``s`` depends on ``a + b`` at the place itself and on average (Dai et
    al. 2020, arXiv:2009.14082). ``hidden`` is the width of the bottleneck.
    """

    def __init__(self, *, width: int, hidden: int) -> None:
        super().__init__()
        self.near, self.whole = _bottleneck(width, hidden), _bottleneck(width, hidden)

    def forward(self, a: Float[Tensor, "n d y x"], b: Float[Tensor, "n d y x"]) -> Float[Tensor, "n d y x"]:
        both = a + b
        share = torch.sigmoid(self.near(both) + self.whole(both.mean((2, 3), keepdim=True)))
        return 2 * a * share + 2 * b * (1 - share)


def _bottleneck(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(width, hidden, kernel_size=1),
        BatchNorm(width=hidden),
        nn.ReLU(),
        nn.Conv2d(hidden, width, kernel_size=1),
        BatchNorm(width=width),
    )
