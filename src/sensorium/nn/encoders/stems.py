"""From a regular grid of values to one feature vector per patch. Legend: n segments, s... grid axes, c channels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..layers.linear import Linear


def patches(values: Float[Tensor, "n *s c"], patch: Sequence[int]) -> Float[Tensor, "n t p"]:
    """Cut a grid whose axes are multiples of ``patch`` into flattened patches, in row-major order."""
    n, *sizes, c = values.shape
    split = [part for size, p in zip(sizes, patch, strict=True) for part in (size // p, p)]
    axes = len(sizes)
    order = [0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1]
    tokens = math.prod(size // p for size, p in zip(sizes, patch, strict=True))
    return values.reshape(n, *split, c).permute(order).reshape(n, tokens, math.prod(patch) * c)


def assembled(
    cut: Float[Tensor, "n t p"], grid: Sequence[int], patch: Sequence[int]
) -> Float[Tensor, "n *s c"]:
    """The grid of values that was cut into these ``patches``, of which there are ``grid`` along each axis."""
    axes = len(grid)
    order = [0, *(part for axis in range(1, axes + 1) for part in (axis, axis + axes)), 2 * axes + 1]
    channels = cut.shape[-1] // math.prod(patch)
    sizes = [g * p for g, p in zip(grid, patch, strict=True)]
    return cut.reshape(len(cut), *grid, *patch, channels).permute(order).reshape(len(cut), *sizes, channels)


class Stem(nn.Module):
    """From values ``[n, *s, channels]`` whose axes are multiples of ``patch`` to ``[n, t, width]``."""

    def __init__(self, *, patch: list[int], channels: int, width: int) -> None:
        super().__init__()
        self.patch, self.channels, self.width = patch, channels, width

    def forward(self, values: Float[Tensor, "n *s c"], lengths: Int[Tensor, "n"]) -> Float[Tensor, "n t d"]:
        raise NotImplementedError


class LinearStem(Stem):
    """One linear map of each flattened patch (Dosovitskiy et al. 2020, arXiv:2010.11929)."""

    def __init__(self, *, patch: list[int], channels: int, width: int) -> None:
        super().__init__(patch=patch, channels=channels, width=width)
        self.project = Linear(math.prod(patch) * channels, width)

    def forward(self, values: Float[Tensor, "n *s c"], lengths: Int[Tensor, "n"]) -> Float[Tensor, "n t d"]:
        return self.project(patches(values, self.patch))


class ConvStem(Stem):
    """Stride-2 convolutions down to one vector per patch (Xiao et al. 2021, arXiv:2106.14881).

    Works over the last one or two grid axes, whose patch is the same power of two; leading axes of a longer grid
    (video frames) have patch 1 and are treated apart. Normalises over channels only, and keeps padding at
    zero, so that a segment's features do not depend on what it is batched with.
    """

    def __init__(self, *, patch: list[int], channels: int, width: int) -> None:
        super().__init__(patch=patch, channels=channels, width=width)
        side = patch[-1]
        self.dims = min(2, len(patch))
        steps = side.bit_length() - 1
        spatial = patch[-self.dims :]
        if (
            side < 2
            or side != 1 << steps
            or any(p != side for p in spatial)
            or any(p != 1 for p in patch[: -self.dims])
        ):
            raise ConfigError(
                f"a convolutional stem needs a patch like [16, 16] or [1, 16, 16], found {patch}"
            )
        convolution = nn.Conv1d if self.dims == 1 else nn.Conv2d
        widths = [channels, *(max(width >> (steps - 1 - step), 32) for step in range(steps))]
        widths[-1] = width
        self.convolutions = nn.ModuleList(
            convolution(before, after, kernel_size=3, stride=2, padding=1)
            for before, after in pairwise(widths)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(after) for after in widths[1:])
        self.project = Linear(width, width)

    def forward(self, values: Float[Tensor, "n *s c"], lengths: Int[Tensor, "n"]) -> Float[Tensor, "n t d"]:
        n = values.shape[0]
        lead = values.shape[1 : -1 - self.dims]
        x = values.reshape(n * math.prod(lead), *values.shape[-1 - self.dims :])
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            x = convolution(x.movedim(-1, 1)).movedim(1, -1)
            x = F.gelu(norm(x), approximate="tanh")
            if not lead:
                lengths = (lengths + 1) // 2
                if bool((lengths < x.shape[1]).any()):
                    real = torch.arange(x.shape[1], device=x.device) < lengths[:, None]
                    x = x * real.reshape(n, x.shape[1], *(1,) * self.dims)
        return self.project(x).reshape(n, math.prod(lead) * math.prod(x.shape[1:-1]), self.width)
