"""Normalisation layers with keyword arguments, so that each can be a part of a Spec."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """Zero mean and unit variance over the last axis (Ba et al. 2016, arXiv:1607.06450)."""

    def __init__(self, *, width: int, eps: float = 1e-5, bias: bool = True) -> None:
        super().__init__(width, eps=eps, bias=bias)


class HeadNorm(nn.Module):
    """Zero mean and unit variance over the channels of each head, which has a weight of its own (Cohere)."""

    def __init__(self, *, heads: int, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(heads, width))

    def forward(self, x: Float[Tensor, "b h t e"]) -> Float[Tensor, "b h t e"]:
        return F.layer_norm(x, x.shape[-1:], eps=self.eps) * self.weight[:, None]


class RMSNorm(nn.Module):
    """Unit root mean square over the last axis, times ``weight + offset`` (Zhang and Sennrich 2019,
    arXiv:1910.07467). ``offset`` 1 stores the weight around zero, as Gemma does.
    """

    def __init__(self, *, width: int, eps: float = 1e-6, offset: float = 0.0) -> None:
        super().__init__()
        self.eps, self.offset = eps, offset
        self.weight = nn.Parameter(torch.full((width,), 1.0 - offset))

    def forward(self, x: Float[Tensor, "*m d"]) -> Float[Tensor, "*m d"]:
        return F.rms_norm(
            x, self.weight.shape, self.weight + self.offset if self.offset else self.weight, self.eps
        )


class JointRMSNorm(RMSNorm):
    """Unit root mean square over the channels of all heads of a token together, ``width`` in all (InternViT-6B, Chen
    et al. 2023, arXiv:2312.14238).
    """

    def forward(self, x: Float[Tensor, "b h t e"]) -> Float[Tensor, "b h t e"]:
        joined = super().forward(x.transpose(1, 2).flatten(2))
        return joined.unflatten(-1, (x.shape[1], -1)).transpose(1, 2)


class GroupNorm(nn.GroupNorm):
    """Zero mean and unit variance over groups of channels, which are axis 1 (Wu and He 2018, arXiv:1803.08494)."""

    def __init__(self, *, groups: int, width: int, eps: float = 1e-5) -> None:
        super().__init__(groups, width, eps=eps)


class BatchNorm(nn.BatchNorm2d):
    """Zero mean and unit variance of each channel (axis 1) over the batch in training, and by running statistics
    in use (Ioffe and Szegedy 2015, arXiv:1502.03167). ``momentum`` is the share of the newest batch.

    A batch with less than two values of a channel has no statistics: the running ones serve, and stay as they are.
    """

    def __init__(self, *, width: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(width, eps=eps, momentum=momentum)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        if x.numel() >= 2 * x.shape[1]:
            return super().forward(x)
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=False, eps=self.eps
        )
