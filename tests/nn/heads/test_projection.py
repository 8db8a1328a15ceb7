"""Maps into the common space, against their formulas."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from sensorium.nn.heads.projection import LinearProjection, MLPProjection, NoProjection

X = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
CLOSE = {"atol": 1e-12, "rtol": 0.0}


def test_linear():
    for bias in (False, True):
        project = LinearProjection(width=6, embedding=4, bias=bias).double()
        expected = X @ project.project.weight.T + (project.project.bias if bias else 0)
        torch.testing.assert_close(project(X), expected, **CLOSE)
    assert LinearProjection(width=6, embedding=4).project.bias is None


def test_two_layers():
    project = MLPProjection(width=6, embedding=4, activation="gelu").double()
    hidden = F.gelu(X @ project.up.weight.T + project.up.bias)
    assert hidden.shape == (3, 4)
    torch.testing.assert_close(project(X), hidden @ project.down.weight.T + project.down.bias, **CLOSE)


def test_none():
    assert NoProjection()(X) is X
