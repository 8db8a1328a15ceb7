"""Norms against their formulas, and against the other ways of torch to compute them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sensorium.nn.layers.norms import BatchNorm, GroupNorm, HeadNorm, JointRMSNorm, LayerNorm, RMSNorm

CLOSE = {"atol": 1e-12, "rtol": 0.0}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def randomised(norm: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in norm.parameters():
            parameter.normal_()
    return norm.double()


def numbers(*shape: int) -> torch.Tensor:
    return 3 * torch.randn(shape, dtype=torch.float64) + 1


@pytest.mark.parametrize("eps", [1e-12, 0.5])
@pytest.mark.parametrize("bias", [True, False])
def test_layer_norm(eps: float, bias: bool):
    norm, x = randomised(LayerNorm(width=6, eps=eps, bias=bias)), numbers(4, 6)
    expected = (
        (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + eps).sqrt() * norm.weight
    )
    torch.testing.assert_close(norm(x), expected + norm.bias if bias else expected, **CLOSE)
    assert (norm.bias is not None) is bias


@pytest.mark.parametrize("eps", [1e-12, 0.5])
def test_head_norm(eps: float):
    """As a norm without bias for each head."""
    norm, x = randomised(HeadNorm(heads=3, width=6, eps=eps)), numbers(2, 3, 4, 6)
    for head, weight in enumerate(norm.weight):
        expected = torch.nn.functional.layer_norm(x[:, head], (6,), weight, eps=eps)
        torch.testing.assert_close(norm(x)[:, head], expected, **CLOSE)


@pytest.mark.parametrize("eps", [1e-12, 0.5])
@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_rms_norm(eps: float, offset: float):
    fresh = RMSNorm(width=6, eps=eps, offset=offset).double()
    norm, x = randomised(RMSNorm(width=6, eps=eps, offset=offset)), numbers(4, 3, 6)
    scaled = x / (x.square().mean(-1, keepdim=True) + eps).sqrt()
    torch.testing.assert_close(norm(x), scaled * (offset + norm.weight), **CLOSE)
    torch.testing.assert_close(fresh(x), scaled, **CLOSE)
    assert float(fresh.weight.detach().unique()) == 1.0 - offset


def test_group_norm():
    norm, x = randomised(GroupNorm(groups=3, width=6, eps=0.1)), numbers(2, 6, 5, 4)
    grouped = x.reshape(2, 3, -1)
    normed = (grouped - grouped.mean(-1, keepdim=True)) / (
        grouped.var(-1, correction=0, keepdim=True) + 0.1
    ).sqrt()
    expected = normed.reshape(x.shape) * norm.weight[:, None, None] + norm.bias[:, None, None]
    torch.testing.assert_close(norm(x), expected, **CLOSE)


def test_batch_norm():
    norm, x = randomised(BatchNorm(width=3, eps=0.1, momentum=0.25)), numbers(4, 3, 2, 5)
    over = (0, 2, 3)
    mean, var = x.mean(over), x.var(over, correction=0)
    running = 0.25 * mean, 0.75 + 0.25 * x.var(over)  # of 0 and 1

    def by(mean: torch.Tensor, var: torch.Tensor) -> torch.Tensor:
        factor = norm.weight / (var + 0.1).sqrt()
        return (x - mean[:, None, None]) * factor[:, None, None] + norm.bias[:, None, None]

    torch.testing.assert_close(norm(x), by(mean, var), **CLOSE)
    torch.testing.assert_close(norm.running_mean, running[0], **CLOSE)
    torch.testing.assert_close(norm.running_var, running[1], **CLOSE)
    torch.testing.assert_close(norm.eval()(x), by(*running), **CLOSE)
    torch.testing.assert_close(norm.running_mean, running[0], **CLOSE)


@pytest.mark.parametrize("segments", [0, 1])
def test_a_batch_without_statistics_uses_the_running_ones(segments: int):
    """torch raises for a single value of each channel, and forgets gradients where there are none."""
    norm, x = randomised(BatchNorm(width=3)), numbers(segments, 3, 1, 1).requires_grad_()
    norm.running_mean.fill_(0.5)
    found = norm(x)
    found.sum().backward()
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    torch.testing.assert_close(found, norm.eval()(x), **CLOSE)
    assert int(norm.num_batches_tracked) == 0
    assert norm.running_mean.tolist() == [0.5] * 3


def test_joint_rms_norm():
    """All heads of a token have one scale."""
    norm, x = randomised(JointRMSNorm(width=6, eps=0.1)), numbers(2, 3, 4, 2)
    root = (x.square().sum((1, 3), keepdim=True) / 6 + 0.1).sqrt()
    torch.testing.assert_close(norm(x), x / root * norm.weight.view(3, 1, 2), **CLOSE)
