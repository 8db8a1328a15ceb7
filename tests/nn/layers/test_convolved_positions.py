"""Weight-normed convolutions along time, against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from sensorium.nn.layers.convolved_positions import ConvolvedPositions


@pytest.mark.parametrize("kernel", [1, 4, 7])
def test_against_torch(kernel: int):
    torch.manual_seed(0)
    conv = weight_norm(nn.Conv1d(6, 6, kernel, padding=kernel // 2, groups=3), dim=2).double()
    ours = ConvolvedPositions(width=6, kernel=kernel, groups=3).double()
    parts = conv.parametrizations.weight
    ours.load_state_dict({"scale": 1.5 * parts.original0, "direction": parts.original1, "bias": conv.bias})
    parts.original0.data.mul_(1.5)
    x = torch.randn(2, 9, 6).double()
    expected = torch.nn.functional.gelu(conv(x.transpose(1, 2))[..., :9].transpose(1, 2))
    torch.testing.assert_close(ours(x), expected, atol=1e-12, rtol=0)


def test_starts_at_the_norm_of_its_direction():
    ours = ConvolvedPositions(width=6, kernel=4, groups=3)
    torch.testing.assert_close(ours.scale[0, 0], ours.direction.flatten(0, 1).norm(dim=0))
