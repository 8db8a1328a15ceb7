"""Parts of convolutional networks against their definitions."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from sensorium.nn.layers.convolution import (
    ConvNorm,
    DropBranch,
    SqueezeExcite,
    StandardConv,
    pad_same,
    rounded,
)


@pytest.mark.parametrize(
    ("width", "divisor", "expected"),
    [(32, 8, 32), (35.2, 8, 32), (36, 8, 40), (11.9, 8, 16), (3, 8, 8), (10, 8, 16), (100.0, 16, 96)],
)
def test_rounding_never_loses_a_tenth(width, divisor, expected):
    assert rounded(width, divisor) == expected
    assert rounded(width, divisor) >= 0.9 * width


@pytest.mark.parametrize("size", range(5, 12))
@pytest.mark.parametrize(
    ("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (7, 2, 1), (1, 2, 1), (3, 1, 2)]
)
def test_same_padding_leaves_a_strideth_of_the_places(size, kernel, stride, dilation):
    padded = pad_same(torch.ones(1, 1, size, size + 1), kernel, stride, dilation)
    found = F.conv2d(padded, torch.ones(1, 1, kernel, kernel), stride=stride, dilation=dilation)
    assert found.shape[2:] == (math.ceil(size / stride), math.ceil((size + 1) / stride))
    before = (padded[0, 0].sum(1) > 0).int().argmax()
    assert padded.shape[2] - size - 2 * int(before) in (0, 1)


@pytest.mark.parametrize("same", [False, True])
def test_filters_are_standardised(same):
    torch.manual_seed(0)
    layer = StandardConv(width_in=3, width=4, kernel=3, stride=2, same=same).double()
    x = torch.randn(2, 3, 8, 9, dtype=torch.float64)
    weight = layer.weight.detach()
    mean, spread = weight.mean((1, 2, 3), keepdim=True), weight.var((1, 2, 3), keepdim=True, correction=0)
    expected = F.conv2d(
        F.pad(x, (1, 1, 0, 1)) if same else F.pad(x, (1,) * 4), (weight - mean) / spread.sqrt(), stride=2
    )
    torch.testing.assert_close(layer(x), expected, atol=0, rtol=1e-5)
    with torch.no_grad():
        layer.weight.mul_(3).add_(5)
    torch.testing.assert_close(layer(x), expected, atol=0, rtol=1e-5)


def test_uneven_padding_puts_the_odd_zero_after():
    layer = ConvNorm(width_in=1, width=1, kernel=5, stride=2, uneven=True).eval()
    x = torch.randn(1, 1, 6, 6)
    expected = F.conv2d(F.pad(x, (1, 2, 1, 2)), layer.conv.weight, stride=2)
    torch.testing.assert_close(layer(x), expected / math.sqrt(1 + 1e-5))


def test_gates_come_from_the_means_of_channels():
    layer, x = SqueezeExcite(width=4, hidden=2), torch.randn(2, 4, 3, 5)
    means = x.mean((2, 3))
    hidden = (means @ layer.reduce.weight.flatten(1).T + layer.reduce.bias).relu()
    gate = (hidden @ layer.expand.weight.flatten(1).T + layer.expand.bias).sigmoid()
    torch.testing.assert_close(layer(x), x * gate[..., None, None])


def test_a_branch_is_left_out_for_whole_segments_and_kept_on_average():
    torch.manual_seed(0)
    drop, x = DropBranch(rate=0.25), torch.ones(4000, 2, 1, 1)
    found = drop(x)
    assert sorted(set(found.flatten().tolist())) == pytest.approx([0, 1 / 0.75])
    assert torch.equal(found[:, 0], found[:, 1])
    assert float(found.mean()) == pytest.approx(1, abs=0.05)
    assert drop.eval()(x) is x
