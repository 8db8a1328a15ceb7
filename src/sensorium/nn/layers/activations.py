"""The nonlinearities of feed-forward layers, by the names that public checkpoints give them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...core.errors import ConfigError, nearest


class QuickGELU(nn.Module):
    """``x * sigmoid(1.702 x)``, the approximation of the first CLIP models."""

    slope: ClassVar[float] = 1.702

    def forward(self, x: Tensor) -> Tensor:
        return _QuickGELU.apply(x) if torch.is_grad_enabled() and x.requires_grad else _quick_gelu(x)


def _quick_gelu(x: Tensor) -> Tensor:
    return torch.mul(x, QuickGELU.slope).sigmoid_().mul_(x)


class _QuickGELU(torch.autograd.Function):
    """Keeps its input alone, and makes two large tensors where plain operations make six."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return _quick_gelu(x)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        gate = torch.mul(x, QuickGELU.slope).sigmoid_()
        return torch.sub(1, gate).mul_(x).mul_(QuickGELU.slope).add_(1).mul_(gate).mul_(gradient)


def _tanh_gelu() -> nn.Module:
    return nn.GELU(approximate="tanh")


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "gelu": nn.GELU,
    "gelu_tanh": _tanh_gelu,
    "gelu_new": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "linear": nn.Identity,
    "quick_gelu": QuickGELU,
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "swish": nn.SiLU,
    "tanh": nn.Tanh,
}


def activation(name: str) -> nn.Module:
    """The nonlinearity of that name. Raises ConfigError for an unknown one."""
    if name not in ACTIVATIONS:
        raise ConfigError(f"there is no activation {name!r}{nearest(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]()
