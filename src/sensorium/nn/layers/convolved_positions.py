"""Positions that follow from the neighbours of each token."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .activations import activation as by_name


class ConvolvedPositions(nn.Module):
    """What a grouped convolution makes of each token and its ``kernel`` neighbours (wav2vec 2.0, Baevski et al. 2020,
    arXiv:2006.11477). Padding must be zero.

    Its kernel is ``direction`` scaled to the learned norm ``scale`` at each of its places (weight normalisation,
    Salimans and Kingma 2016, arXiv:1602.07868). An even kernel sees one token more of the past than of the future.
    """

    def __init__(self, *, width: int, kernel: int, groups: int, activation: str = "gelu") -> None:
        super().__init__()
        self.kernel, self.groups = kernel, groups
        self.direction = nn.Parameter(torch.empty(width, width // groups, kernel))
        self.bias = nn.Parameter(torch.zeros(width))
        self.activation = by_name(activation)
        nn.init.normal_(self.direction, std=2 * (kernel * width) ** -0.5)
        self.scale = nn.Parameter(self._norm().detach())

    def forward(self, x: Float[Tensor, "n t d"]) -> Float[Tensor, "n t d"]:
        weight = self.direction * (self.scale / self._norm())
        y = F.conv1d(x.transpose(1, 2), weight, self.bias, padding=self.kernel // 2, groups=self.groups)
        return self.activation(y[..., : x.shape[1]]).transpose(1, 2)

    def _norm(self) -> Float[Tensor, "1 1 kernel"]:
        return torch.linalg.vector_norm(self.direction, dim=(0, 1), keepdim=True)
