"""What of a patch is to be predicted, and back."""

from __future__ import annotations

import pytest
import torch

from sensorium.nn.encoders.patch_targets import ChannelValues, PatchTarget, Values
from sensorium.nn.encoders.stems import assembled, patches

TARGETS = [
    Values(),
    Values(normalise=True),
    ChannelValues(normalise=False, mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7]),
    ChannelValues(mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7]),
]


@pytest.mark.parametrize(("sizes", "patch"), [((6, 8), [2, 4]), ((4, 6, 6), [2, 3, 2]), ((12,), [3])])
def test_patches_are_put_together_again(sizes, patch):
    values = torch.rand(2, *sizes, 3)
    grid = [size // p for size, p in zip(sizes, patch, strict=True)]
    assert torch.equal(assembled(patches(values, patch), grid, patch), values)
    assert assembled(patches(values[:0], patch), grid, patch).shape == (0, *sizes, 3)


@pytest.mark.parametrize("target", TARGETS)
def test_what_is_predicted_perfectly_is_the_truth(target: PatchTarget):
    values = torch.randn(2, 4, 6, 6, 3)
    predicted = target(values, [2, 3, 2])
    assert predicted.shape == (2, 12, 36)
    torch.testing.assert_close(target.values(predicted, values, [2, 3, 2]), values, atol=1e-5, rtol=0)


def test_normalised():
    values = 3 + 2 * torch.randn(2, 8, 8, 3, dtype=torch.float64)
    whole = Values(normalise=True)(values, [4, 4])
    assert torch.allclose(whole.mean(-1), torch.zeros(2, 4).double(), atol=1e-12)
    assert torch.allclose(whole.var(-1), torch.ones(2, 4).double(), atol=1e-5)
    channels = TARGETS[3](values, [4, 4]).unflatten(-1, (16, 3))
    assert torch.allclose(channels.mean(-2), torch.zeros(2, 4, 3).double(), atol=1e-12)
    assert torch.allclose(channels.var(-2), torch.ones(2, 4, 3).double(), atol=1e-5)
    flat = Values(normalise=True)(torch.ones(1, 4, 4, 3), [4, 4])
    assert torch.equal(flat, torch.zeros(1, 1, 48))
