"""The encoder of everything that lies on a regular grid: pictures, spectrograms, clips, sensor series."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...core.random import uniform
from ..layers.positions import sin_cos
from .encoded import Encoded, Encoder
from .stems import Stem, patches


class GridEncoder(Encoder):
    """Patches of a grid with one, two or three axes, through a stem, with sine-cosine positions.

    The first axis may differ in length between segments. Masking replaces a ``mask_ratio`` of the patches in
    value space (SimMIM, Xie et al. 2022, arXiv:2111.09886), so that no stem can see through it.
    """

    def __init__(self, *, stem: Stem, mask_ratio: float = 0.5) -> None:
        super().__init__()
        self.stem, self.mask_ratio = stem, mask_ratio
        self.patch, self.width = stem.patch, stem.width
        self.patch_width = math.prod(stem.patch) * stem.channels
        self.mark = nn.Parameter(torch.zeros(stem.width))  # tells the trunk which modality a token is of
        self.mask_token = nn.Parameter(torch.randn(stem.width) * 0.02)

    def forward(
        self,
        values: Float[Tensor, "n *s c"],
        lengths: Int[Tensor, "n"],
        corrupt: Bool[Tensor, "n"],
        seed: Int[Tensor, "n"],
    ) -> Encoded:
        sizes = values.shape[1:-1]
        short = [-size % p for size, p in zip(sizes, self.patch, strict=True)]
        if any(short):
            values = F.pad(values, (0, 0, *(part for pad in reversed(short) for part in (0, pad))))
        grid = [size // p for size, p in zip(values.shape[1:-1], self.patch, strict=True)]
        tokens = math.prod(grid)
        lengths_tokens = (lengths + self.patch[0] - 1) // self.patch[0] * math.prod(grid[1:])
        real = torch.arange(tokens, device=values.device) < lengths_tokens[:, None]
        masked = (uniform(seed, tokens) < self.mask_ratio) & corrupt[:, None] & real
        truth = patches(values, self.patch)
        if bool(corrupt.any()):
            hide = masked.reshape(-1, *grid)
            for axis, p in enumerate(self.patch, start=1):
                hide = hide.repeat_interleave(p, axis)
            values = values.masked_fill(hide[..., None], 0.0)
        x = self.stem(values, lengths) + self.mark + sin_cos(grid, self.width, values.device)
        return Encoded(x + masked[..., None] * self.mask_token, lengths_tokens, masked, truth)
