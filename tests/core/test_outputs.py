"""What a model returns."""

from __future__ import annotations

import torch

from sensorium.core.outputs import products


def test_of_several_vectors_the_nearest_counts():
    one, other = torch.randn(3, 4, 5), torch.randn(2, 6, 5)
    expected = torch.einsum("nqd,mpd->nmqp", one, other)
    torch.testing.assert_close(products(one, other), expected.amax((2, 3)))
    torch.testing.assert_close(products(one[:, 0], other), expected[:, :, 0].amax(2))
    torch.testing.assert_close(products(one, other[:, 0]), expected[..., 0].amax(2))
    torch.testing.assert_close(products(one[:, 0], other[:, 0]), one[:, 0] @ other[:, 0].T)
    assert products(one[:0], other).shape == (0, 2)
