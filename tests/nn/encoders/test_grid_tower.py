"""Small towers over grids: segments of unequal lengths are read as each alone."""

from __future__ import annotations

import pytest
import torch

from sensorium.core import ConfigError
from sensorium.nn.encoders.grid import GridEncoder
from sensorium.nn.encoders.grid_tower import GridTower
from sensorium.nn.encoders.stems import LinearStem
from sensorium.nn.heads.pooling import MeanToken, Pool
from sensorium.nn.layers.blocks import block
from sensorium.nn.layers.transformer import Transformer


def tower(width: int = 12) -> GridTower:
    torch.manual_seed(0)
    return GridTower(
        encoder=GridEncoder(stem=LinearStem(patch=[4], channels=3, width=width)),
        trunk=Transformer(width=12, depth=2, block=block(width=12, heads=3, hidden=24)),
        pool=Pool(width=12, select=MeanToken()),
    ).double()


@torch.no_grad()
def test_alone_is_batched():
    made, lengths = tower(), torch.tensor([9, 4, 13])
    values = torch.randn(3, 13, 3, dtype=torch.float64)
    values[torch.arange(13) >= lengths[:, None]] = 0.0
    found = made(values, lengths)
    assert found.lengths.tolist() == [3, 1, 4]
    for row, length in enumerate(lengths.tolist()):
        alone = made(values[row : row + 1, :length], lengths[row : row + 1])
        torch.testing.assert_close(found.segments()[row], alone.rows, atol=1e-12, rtol=0)
        torch.testing.assert_close(found.pooled[row], alone.pooled[0], atol=1e-12, rtol=0)


def test_without_segments_there_is_a_gradient():
    made = tower()
    found = made(torch.zeros(0, 1, 3, dtype=torch.float64), torch.zeros(0, dtype=torch.long))
    assert found.rows.shape == (0, 12)
    (found.rows.sum() + found.pooled.sum()).backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_widths_must_agree():
    with pytest.raises(ConfigError, match="the encoder has width 8, the blocks after it 12"):
        tower(width=8)
