"""Blocks on top of towers: only real tokens count, and a map as regions of several sizes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sensorium.core import ConfigError
from sensorium.nn.encoders.attended import Attended, Regions
from sensorium.nn.encoders.efficientnet import EfficientNet, Stage
from sensorium.nn.encoders.token_tower import TokenEmbedding, TokenTower
from sensorium.nn.heads.pooling import FirstToken, MeanToken, Pool
from sensorium.nn.layers.blocks import PostNorm, block
from sensorium.nn.layers.transformer import Transformer


def trunk(width: int) -> Transformer:
    part = block(width=width, heads=2, hidden=2 * width, placement=PostNorm)
    return Transformer(width=width, depth=2, block=part)


def words(width: int = 8) -> TokenTower:
    embedding = TokenEmbedding(vocabulary=20, width=width, length=9)
    return TokenTower(embedding=embedding, trunk=trunk(width), pool=Pool(width=width, select=FirstToken()))


def eye() -> EfficientNet:
    stage = Stage(width=40, depth=1, kernel=3, stride=2, expansion=1)
    return EfficientNet(stages=[stage], wider=0.25, top=False).double().eval()


@torch.no_grad()
def test_tokens_look_at_the_others_of_their_own_segment():
    torch.manual_seed(0)
    tower = Attended(tower=words(), trunk=trunk(8), pool=Pool(width=8, select=MeanToken())).double().eval()
    ids, lengths = torch.randint(1, 20, (3, 7)), torch.tensor([7, 2, 4])
    found = tower(ids, lengths)
    assert found.lengths.tolist() == [7, 2, 4]
    for index, (rows, length) in enumerate(zip(found.segments(), lengths.tolist(), strict=True)):
        alone = tower(ids[index : index + 1, :length], lengths[index : index + 1])
        torch.testing.assert_close(alone.rows, rows)
        torch.testing.assert_close(found.pooled[index], rows.mean(0))
    below = tower.tower(ids, lengths)
    assert not torch.allclose(found.rows, below.rows)
    changed = ids.clone()
    changed[0, 6] = (ids[0, 6] % 19) + 1
    again = tower(changed, lengths)
    assert not torch.allclose(again.segments()[0][0], found.segments()[0][0])
    assert torch.equal(again.segments()[1], found.segments()[1])
    assert tower(ids[:0], lengths[:0]).pooled.shape == (0, 8)


@torch.no_grad()
def test_regions_are_means_of_cells():
    torch.manual_seed(0)
    tower = Regions(tower=eye(), grids=[1, 2])
    pictures = torch.randn(2, 16, 24, 3, dtype=torch.float64)
    found = tower(pictures, torch.full((2,), 16))
    maps = tower.tower.maps(pictures.permute(0, 3, 1, 2))
    assert found.lengths.tolist() == [5, 5]
    for picture, rows in zip(maps, found.segments(), strict=True):
        high, wide = picture.shape[1] // 2, picture.shape[2] // 2
        torch.testing.assert_close(rows[0], picture.mean((1, 2)))
        torch.testing.assert_close(rows[1], picture[:, :high, :wide].mean((1, 2)))
        torch.testing.assert_close(rows[2], picture[:, :high, wide:].mean((1, 2)))
        torch.testing.assert_close(rows[4], picture[:, high:, wide:].mean((1, 2)))
    torch.testing.assert_close(found.pooled, F.adaptive_avg_pool2d(maps, 1).flatten(1))
    assert tower(pictures[:0], torch.zeros(0, dtype=torch.long)).rows.shape == (0, tower.width)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="the tower has width 8, the blocks on top of it 16"):
        Attended(tower=words(), trunk=trunk(16), pool=Pool(width=16, select=MeanToken()))
    for grids in ([], [0, 2]):
        with pytest.raises(ConfigError, match="grids must be"):
            Regions(tower=eye(), grids=grids)
