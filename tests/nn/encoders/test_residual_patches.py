"""Patches by themselves, and where they lie."""

from __future__ import annotations

import pytest
import torch

from sensorium.core import ConfigError
from sensorium.nn.encoders.residual_patches import ResidualPatches


def tower(**more) -> ResidualPatches:
    torch.manual_seed(0)
    return ResidualPatches(patch=4, channels=3, inner=16, width=6, groups=4, **more).eval()


def read(eye: ResidualPatches, pictures: torch.Tensor) -> torch.Tensor:
    return eye(pictures, torch.full((len(pictures),), pictures.shape[1])).rows


def test_a_patch_is_read_alone_and_knows_its_place():
    """The same patch elsewhere differs by the vectors of its place; its neighbours change nothing."""
    eye, picture = tower(), torch.randn(1, 8, 12, 3)
    rows = read(eye, picture).view(2, 3, 6)
    other = torch.randn(1, 8, 12, 3)
    other[:, 4:, :4] = picture[:, :4, 4:8]
    moved = read(eye, other).view(2, 3, 6)[1, 0]
    middles = {
        axis: [int((part + 0.5) / size * 128) for part in range(size)] for axis, size in (("r", 2), ("c", 3))
    }
    there = eye.row.weight[middles["r"][1]] + eye.column.weight[middles["c"][0]]
    here = eye.row.weight[middles["r"][0]] + eye.column.weight[middles["c"][1]]
    torch.testing.assert_close(moved - there, rows[0, 1] - here, atol=1e-5, rtol=1e-4)


def test_in_training_places_are_drawn_within_the_patch():
    eye = tower().train()
    drawn = torch.stack([eye._places(50, 4, torch.device("cpu")) for _ in range(4)])
    for part in range(4):
        assert drawn[..., part].min() >= 32 * part
        assert drawn[..., part].max() < 32 * (part + 1)
    assert len(drawn[..., 0].unique()) > 16
    picture = torch.randn(1, 8, 8, 3)
    assert not torch.equal(read(eye, picture), read(eye, picture))


def test_shapes_and_what_does_not_fit():
    eye = tower()
    found = eye(torch.zeros(2, 8, 12, 3), torch.tensor([8, 8]))
    assert (found.rows.shape, found.lengths.tolist(), found.pooled.shape) == ((12, 6), [6, 6], (2, 6))
    with pytest.raises(ConfigError, match=r"patches of 4 pixels do not fill pictures of \[8, 10\]"):
        read(eye, torch.zeros(1, 8, 10, 3))
    with pytest.raises(ConfigError, match="even side, found 3"):
        ResidualPatches(patch=3, channels=3, inner=16, width=6, groups=4)


def test_no_rows():
    eye = tower()
    found = eye(torch.zeros(0, 8, 8, 3), torch.zeros(0, dtype=torch.long))
    assert (found.rows.shape, found.pooled.shape) == ((0, 6), (0, 6))
    (found.rows.sum() + found.pooled.sum()).backward()
    assert all(value.grad is not None for value in eye.parameters())
