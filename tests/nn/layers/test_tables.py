from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sensorium.core import ConfigError
from sensorium.nn.layers.tables import PositionTable, interpolate


def table(**how) -> PositionTable:
    torch.manual_seed(0)
    return PositionTable(grid=[4, 6], width=5, prefix=2, **how).double()


def test_its_own_grid_is_the_table_itself():
    made = table(mode="bilinear", antialias=True, single=True)
    assert made((4, 6)) is made.weight


@pytest.mark.parametrize("grid", [(3, 3), (4, 12), (9, 2)])
@pytest.mark.parametrize(
    "how", [{}, {"mode": "bilinear"}, {"antialias": True}, {"mode": "bilinear", "antialias": True}]
)
def test_another_grid(how, grid):
    made = table(**how)
    found = made(grid)
    assert torch.equal(found[:2], made.weight[:2])
    places = made.weight[2:].T.reshape(1, 5, 4, 6)
    expected = F.interpolate(places, size=grid, align_corners=False, **{"mode": "bicubic"} | how)
    torch.testing.assert_close(found[2:], expected[0].flatten(1).T)


def test_single_precision():
    found, exact = table(single=True)((3, 3)), table()((3, 3))
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, exact, atol=1e-6, rtol=0)
    assert not torch.equal(found[2:], exact[2:])
    assert torch.equal(found[2:], found[2:].float().double())


def test_a_sequence_is_stretched_and_a_cube_is_not():
    assert interpolate(torch.randn(4, 3), [4], [7]).shape == (7, 3)
    with pytest.raises(ConfigError, match=r"\[2, 2, 2\] cannot be stretched to \[2, 2, 3\]"):
        interpolate(torch.randn(8, 3), [2, 2, 2], [2, 2, 3])
