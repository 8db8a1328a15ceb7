"""Several linear maps as one: each part is a linear map of its own, with or without a bias."""

from __future__ import annotations

from itertools import product

import pytest
import torch
import torch.nn.functional as F

from sensorium.core import ConfigError
from sensorium.nn.layers.fused import FusedLinear

PARTS = [4, 2, 3]


@pytest.mark.parametrize("biased", list(product([True, False], repeat=3)))
def test_each_part_is_a_linear_map(biased: tuple[bool, ...]):
    torch.manual_seed(0)
    fused = FusedLinear(width=5, parts=PARTS, biased=biased).double()
    x = torch.randn(2, 7, 5, dtype=torch.float64)
    sizes = [size for size, has in zip(PARTS, biased, strict=True) if has]
    biases = iter(())
    if fused.bias is None:
        assert not any(biased)
    else:
        torch.nn.init.normal_(fused.bias)
        assert fused.bias.shape == (sum(sizes),)
        biases = iter(fused.bias.split(sizes))
    expected = [
        F.linear(x, weight, next(biases) if has else None)
        for weight, has in zip(fused.weight.split(PARTS), biased, strict=True)
    ]
    torch.testing.assert_close(fused(x), torch.cat(expected, -1), atol=1e-12, rtol=0)


def test_every_bias_learns():
    fused = FusedLinear(width=5, parts=PARTS, biased=[True, False, True])
    fused(torch.randn(3, 5)).sum().backward()
    assert fused.bias is not None
    assert fused.bias.grad.tolist() == [3.0] * 7


def test_it_begins_as_linear_maps_do():
    torch.manual_seed(0)
    weight = FusedLinear(width=100, parts=[300, 300], biased=[True, True]).weight.detach()
    assert 0.095 < float(weight.abs().max()) <= 0.1
    assert abs(float(weight.std()) - 0.1 / 3**0.5) < 1e-3


def test_flags_for_other_parts():
    with pytest.raises(ConfigError, match="of 3 parts needs as many flags, found 2"):
        FusedLinear(width=5, parts=PARTS, biased=[True, False])
