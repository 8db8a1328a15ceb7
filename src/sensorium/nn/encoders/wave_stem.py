"""Features learned from raw samples: a stack of strided convolutions along time.

Legend: n segments, c channels, t places along time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..layers.activations import activation as by_name


class SegmentNorm(nn.Module):
    """Zero mean and unit variance of each channel over the real places of its own segment, then a learned scale and
    shift: GroupNorm with a group for each channel that padding cannot change.

    The reference takes the statistics over padding too, which makes a segment's features depend on its neighbours;
    here they are those of the segment alone, so both agree wherever nothing is padded.
    """

    def __init__(self, *, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "n c t"], lengths: Int[Tensor, "n"]) -> Float[Tensor, "n c t"]:
        longest = x.shape[-1]
        if bool((lengths == longest).all()):
            return self._normed(x)
        parts = [self._normed(row[None, :, :length]) for row, length in zip(x, lengths.tolist(), strict=True)]
        return torch.cat([F.pad(part, (0, longest - part.shape[-1])) for part in parts])

    def _normed(self, x: Float[Tensor, "n c t"]) -> Float[Tensor, "n c t"]:
        return F.group_norm(x, len(self.weight), self.weight, self.bias, self.eps)


class FrameNorm(nn.Module):
    """Zero mean and unit variance over the channels of each place, then a learned scale and shift."""

    def __init__(self, *, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[Tensor, "n c t"], lengths: Int[Tensor, "n"]) -> Float[Tensor, "n c t"]:
        normed = F.layer_norm(x.transpose(1, 2), self.weight.shape, self.weight, self.bias, self.eps)
        return normed.transpose(1, 2)


class WaveConvolution(nn.Module):
    """One convolution without padding, a norm over what it gives (if any), and a nonlinearity."""

    def __init__(
        self,
        *,
        width_in: int,
        width: int,
        kernel: int,
        stride: int,
        bias: bool = False,
        norm: nn.Module | None = None,
        activation: str = "gelu",
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.width = kernel, stride, width
        self.conv = nn.Conv1d(width_in, width, kernel, stride, bias=bias)
        nn.init.kaiming_normal_(self.conv.weight)
        self.norm, self.activation = norm, by_name(activation)

    def forward(
        self, x: Float[Tensor, "n c t"], lengths: Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "n d t2"], Int[Tensor, "n"]]:
        x, lengths = self.conv(x), (lengths - self.kernel) // self.stride + 1
        return self.activation(x if self.norm is None else self.norm(x, lengths)), lengths


class WaveStem(nn.Module):
    """From samples to frames, as wide as the last of ``layers``. One frame sees ``field`` samples.

    There is no padding inside: a frame is real when all that it sees is, and a remainder shorter than a step is
    dropped.
    """

    def __init__(self, *, layers: Sequence[WaveConvolution]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.width = layers[-1].width
        field = 1
        for layer in reversed(layers):
            field = (field - 1) * layer.stride + layer.kernel
        self.field: int = field

    def forward(
        self, values: Float[Tensor, "n s c"], lengths: Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "n t d"], Int[Tensor, "n"]]:
        """The frames of each segment and how many are real, below 1 where a segment is shorter than ``field``."""
        x = F.pad(values.transpose(1, 2), (0, max(self.field - values.shape[1], 0)))
        for layer in self.layers:
            x, lengths = layer(x, lengths)
        return x.transpose(1, 2), lengths
