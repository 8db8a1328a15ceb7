"""The linear layer of every network here, alone or with what follows it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...core.product import fast, linear, one_dnn
from .activations import QuickGELU


class Linear(nn.Linear):
    """``x @ weight.T + bias``, by the faster library of the machine: see ``core.product``."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)


def linear_then(layer: Linear, activation: nn.Module, x: Float[Tensor, "*m d"]) -> Float[Tensor, "*m e"]:
    """``activation(layer(x))``; without a gradient as one operation, where there is one."""
    fused = _fused(activation)
    if fused is None or torch.is_grad_enabled() or not fast(x, layer.weight, layer.bias):
        return activation(layer(x))
    name, algorithm, slope = fused
    rows = x.reshape(-1, x.shape[-1])
    bias: Tensor | None = layer.bias
    if slope != 1:
        rows, bias = rows * slope, None if bias is None else bias * slope
    y = one_dnn(rows, layer.weight, bias, name, algorithm)
    return (y if slope == 1 else y.div_(slope)).view(*x.shape[:-1], y.shape[-1])


def _fused(activation: nn.Module) -> tuple[str, str, float] | None:
    """How oneDNN calls an activation, and the ``slope`` with which ``activation(slope * x) / slope`` is it."""
    if type(activation) is nn.GELU:
        return "gelu", activation.approximate, 1.0
    if type(activation) is QuickGELU:
        return "swish", "", QuickGELU.slope
    return {nn.ReLU: ("relu", "", 1.0), nn.SiLU: ("swish", "", 1.0)}.get(type(activation))
