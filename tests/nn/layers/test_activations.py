"""Nonlinearities by name, against their formulas and those of transformers."""

from __future__ import annotations

import math

import pytest
import torch
from transformers.activations import ACT2FN

from sensorium.core import ConfigError
from sensorium.nn.layers.activations import ACTIVATIONS, activation

X = torch.linspace(-6, 6, 101, dtype=torch.float64)
TANH = 0.5 * X * (1 + torch.tanh(math.sqrt(2 / math.pi) * (X + 0.044715 * X**3)))
FORMULAS = {
    "gelu": X * 0.5 * (1 + torch.erf(X / math.sqrt(2))),
    "gelu_tanh": TANH,
    "gelu_new": TANH,
    "gelu_pytorch_tanh": TANH,
    "linear": X,
    "quick_gelu": X / (1 + torch.exp(-1.702 * X)),
    "relu": X.clamp(min=0),
    "silu": X / (1 + torch.exp(-X)),
    "swish": X / (1 + torch.exp(-X)),
    "tanh": (torch.exp(2 * X) - 1) / (torch.exp(2 * X) + 1),
}


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_formula(name: str):
    torch.testing.assert_close(activation(name)(X), FORMULAS[name], atol=1e-12, rtol=0)
    if name in ACT2FN:
        torch.testing.assert_close(activation(name)(X), ACT2FN[name](X), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
def test_gradient(name: str):
    x = (X + 0.03).requires_grad_()  # no kink of relu
    assert torch.autograd.gradcheck(activation(name), (x,))
    with torch.no_grad():
        assert torch.equal(activation(name)(x), activation(name)(x.detach()))


def test_an_unknown_name():
    with pytest.raises(ConfigError, match=r"no activation 'gleu' \(did you mean 'gelu'\?\)"):
        activation("gleu")
