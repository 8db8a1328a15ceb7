"""What convolutional networks are made of. Legend: n segments, c channels, h and w the axes of the map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .activations import activation as by_name
from .norms import BatchNorm


def rounded(width: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to ``width``, but no less than 90 % of it (MobileNets)."""
    nearest = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * width else nearest


def pad_same(
    x: Float[Tensor, "n c h w"], kernel: int, stride: int, dilation: int = 1
) -> Float[Tensor, "n c h2 w2"]:
    """Zeros around the map so that ``ceil(size / stride)`` places come out, the odd one after: TensorFlow's rule."""
    pads: list[int] = []
    for size in (x.shape[-1], x.shape[-2]):
        missing = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        pads += [missing // 2, missing - missing // 2]
    return F.pad(x, pads) if any(pads) else x


class ConvNorm(nn.Module):
    """A convolution without bias, BatchNorm, and a nonlinearity if one is named.

    ``uneven``: one zero less before each axis than after it, as TensorFlow pads even sizes at stride 2.
    """

    def __init__(
        self,
        *,
        width_in: int,
        width: int,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        uneven: bool = False,
        activation: str | None = None,
        eps: float = 1e-5,
        momentum: float = 0.1,
    ) -> None:
        super().__init__()
        half = kernel // 2
        self.pads = (half - 1, half, half - 1, half) if uneven else None
        self.conv = nn.Conv2d(
            width_in, width, kernel, stride, 0 if uneven else half, groups=groups, bias=False
        )
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.norm = BatchNorm(width=width, eps=eps, momentum=momentum)
        self.activation = by_name(activation) if activation is not None else nn.Identity()

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        if self.pads is not None:
            x = F.pad(x, self.pads)
        return self.activation(self.norm(self.conv(x)))


class StandardConv(nn.Module):
    """A convolution whose filters have zero mean and unit variance (weight standardisation, Qiao et al. 2019,
    arXiv:1903.10520). ``same`` pads as ``pad_same``, else evenly by what the kernel and stride need.
    """

    def __init__(
        self,
        *,
        width_in: int,
        width: int,
        kernel: int,
        stride: int = 1,
        dilation: int = 1,
        same: bool = False,
        eps: float = 1e-8,
    ) -> None:
        super().__init__()
        self.stride, self.dilation, self.eps = stride, dilation, eps
        self.same = same and stride > 1  # at stride 1 an odd kernel is padded evenly by both rules
        self.padding = 0 if self.same else (stride - 1 + dilation * (kernel - 1)) // 2
        self.weight = nn.Parameter(torch.empty(width, width_in, kernel, kernel))
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        if self.same:
            x = pad_same(x, self.weight.shape[-1], self.stride, self.dilation)
        weight = F.layer_norm(self.weight, self.weight.shape[1:], eps=self.eps)
        return F.conv2d(x, weight, None, self.stride, self.padding, self.dilation)


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from the means of all (Hu et al. 2017, arXiv:1709.01507)."""

    def __init__(self, *, width: int, hidden: int, activation: str = "relu") -> None:
        super().__init__()
        self.reduce = nn.Conv2d(width, hidden, 1)
        self.activation = by_name(activation)
        self.expand = nn.Conv2d(hidden, width, 1)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        gate = self.expand(self.activation(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * gate.sigmoid()


class DropBranch(nn.Module):
    """In training, zeros the branch of whole segments at random and scales up the others (stochastic depth, Huang et
    al. 2016, arXiv:1603.09382).
    """

    def __init__(self, *, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        if not self.training or self.rate == 0:
            return x
        return x * x.new_empty(len(x), 1, 1, 1).bernoulli_(1 - self.rate).div_(1 - self.rate)
