"""Segments of several tiles against each tile alone."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import Int
from torch import Tensor, nn

from sensorium.nn.encoders.tiled import Tiled
from sensorium.nn.encoders.tower import Features, Tower
from sensorium.nn.heads.pooling import FirstToken, MeanToken


class Columns(Tower):
    """As many tokens as there are rows in a tile."""

    width, pooled_width = 5, 2

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.project, self.head = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, values: Tensor, lengths: Int[Tensor, "n"]) -> Features:
        assert (lengths == values.shape[1]).all()
        x = self.project(values.float().mean(2))
        return Features(x.flatten(0, 1), lengths, self.head(x.mean(1)))


@pytest.mark.parametrize("pool", [None, MeanToken(), FirstToken()])
def test_tiles_are_read_alone(pool: nn.Module | None):
    tower = Columns()
    values = torch.randint(0, 256, (3, 4, 2, 6, 3), dtype=torch.uint8)
    lengths = torch.tensor([2, 4, 1])
    found = Tiled(tower=tower, pool=pool)(values, lengths)
    assert found.lengths.tolist() == [4, 8, 2]
    for index, (rows, tiles) in enumerate(zip(found.segments(), lengths.tolist(), strict=True)):
        alone = tower(values[index, :tiles], torch.full((tiles,), 2))
        torch.testing.assert_close(rows, alone.rows)
        one = alone.pooled[0] if isinstance(pool, FirstToken) else alone.pooled.mean(0)
        torch.testing.assert_close(found.pooled[index], one)


@pytest.mark.parametrize("tiles", [0, 3])
def test_no_rows(tiles: int):
    tower = Tiled(tower=Columns())
    found = tower(torch.zeros(0, tiles, 2, 6, 3), torch.zeros(0, dtype=torch.long))
    assert found.rows.shape == (0, 5)
    assert found.lengths.shape == (0,)
    assert found.pooled.shape == (0, 2)
    (found.rows.sum() + found.pooled.sum()).backward()
    assert all(value.grad is not None for value in tower.parameters())
