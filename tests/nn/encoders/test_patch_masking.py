"""What of a grid is hidden: how much, where, and from whose seed."""

from __future__ import annotations

import pytest
import torch

from sensorium.core import ConfigError
from sensorium.nn.encoders.patch_masking import Blocks, PatchMasking, RandomPatches, Tubes, shares

SEEDS = torch.arange(200) * 7919


@pytest.mark.parametrize(
    ("masking", "grid", "count"),
    [
        (RandomPatches(ratio=0.75), (14, 14), 147),
        (RandomPatches(ratio=0.6), (3, 5), 15 - 6),
        (Tubes(ratio=0.9), (8, 14, 14), 8 * 176),
        (Blocks(ratio=0.4), (14, 14), 78),
        (Blocks(ratio=0.4), (3, 2), 2),
        (Blocks(ratio=0.0), (4, 4), 0),
    ],
)
def test_as_many_in_each_and_each_from_its_own_seed(masking: PatchMasking, grid, count):
    found = masking(SEEDS, grid)
    assert found.shape[0] == 200
    assert (found.sum(1) == count).all()
    assert torch.equal(masking(SEEDS[5:6], grid)[0], found[5])
    assert torch.equal(masking(SEEDS.flip(0), grid).flip(0), found)
    if count:
        assert len(found.unique(dim=0)) > 5
        share = found.float().mean(0)
        assert 0 < share.min() <= share.max() < 1  # no place is hidden never or always
    assert masking(SEEDS[:0], grid).shape == (0, found.shape[1])


def test_tubes_are_the_same_at_all_times():
    found = Tubes()(SEEDS, (4, 6, 6)).unflatten(1, (4, 36))
    assert (found == found[:, :1]).all()


def test_blocks_are_rectangles():
    """Of hidden patches most have hidden neighbours, far more than of random ones."""

    def together(hidden: torch.Tensor) -> float:
        grid = hidden.unflatten(1, (14, 14))
        return float((grid[:, :, 1:] & grid[:, :, :-1]).sum() / grid.sum())

    assert together(Blocks()(SEEDS, (14, 14))) > 0.75
    assert together(RandomPatches(ratio=0.4)(SEEDS, (14, 14))) < 0.45
    first = Blocks(ratio=0.1)(SEEDS, (14, 14)).unflatten(1, (14, 14))
    rows, columns = first.any(2).sum(1), first.any(1).sum(1)
    assert (rows * columns >= 19).all()
    assert ((rows * columns) <= 64).float().mean() > 0.9  # one or two rectangles
    with pytest.raises(ConfigError, match="a grid of two axes, found \\[2, 3, 4\\]"):
        Blocks()(SEEDS, (2, 3, 4))


def test_shares():
    masked = torch.tensor([[True, False, True], [False, False, False], [False, True, False]])
    assert shares(masked, torch.float64).tolist() == [0.5, 0.5, 1.0]


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_a_ratio_is_below_one(ratio: float):
    with pytest.raises(ConfigError, match=r"masking\.ratio"):
        RandomPatches(ratio=ratio)
