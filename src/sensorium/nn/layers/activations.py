"""The nonlinearities of feed-forward layers, by the names that public checkpoints give them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...core.errors import ConfigError, nearest


class QuickGELU(nn.Module):
    """``x * sigmoid(1.702 x)``, the approximation of the first CLIP models."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


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
