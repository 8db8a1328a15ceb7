"""Each window by an encoder of its own weights, which is one encoder with small changes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from sensorium.core import ConfigError
from sensorium.nn.encoders.patch_tower import PatchEmbedding, PatchTower
from sensorium.nn.encoders.tiled import Tiled
from sensorium.nn.encoders.window_adapters import WindowAdapters
from sensorium.nn.heads.pooling import MeanToken, Pool
from sensorium.nn.layers.blocks import block
from sensorium.nn.layers.tables import PositionTable
from sensorium.nn.layers.transformer import Transformer

WIDTH, SIDE, WINDOWS = 8, 4, 2
RANKS = {"attention": 2, "feed_forward": 3}


def tower() -> PatchTower:
    torch.manual_seed(0)
    return PatchTower(
        embedding=PatchEmbedding(
            patch=[2, 2], channels=3, width=WIDTH, positions=PositionTable(grid=[2, 2], width=WIDTH, prefix=1)
        ),
        trunk=Transformer(width=WIDTH, depth=2, block=block(width=WIDTH, heads=2, hidden=16)),
        pool=Pool(width=WIDTH, select=MeanToken()),
    )


def adapted() -> WindowAdapters:
    made = WindowAdapters(tower=tower(), windows=WINDOWS, ranks=RANKS)
    for adapter in made.adapters:
        nn.init.normal_(adapter.up, std=0.3)
    return made


def pictures(count: int, tiles: int) -> tuple[torch.Tensor, torch.Tensor]:
    values = torch.randn(count, tiles, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(1))
    return values, torch.full((count,), tiles)


def test_fresh_adapters_change_nothing():
    made = WindowAdapters(tower=tower(), windows=WINDOWS, ranks=RANKS)
    found, expected = made(*pictures(2, 3)), Tiled(tower=tower())(*pictures(2, 3))
    torch.testing.assert_close(found.rows, expected.rows)
    torch.testing.assert_close(found.pooled, expected.pooled)
    assert found.lengths.tolist() == expected.lengths.tolist() == [15, 15]


def test_a_window_is_read_by_the_tower_with_its_changes():
    """Written into the weights of a copy; the last tile, the whole picture, is read by the tower as it is."""
    made, (values, lengths) = adapted(), pictures(2, 3)
    rows = made(values, lengths).rows.view(2, 3, 5, WIDTH)
    for tile in range(3):
        alone = copy.deepcopy(made.tower)
        if tile < WINDOWS:
            for name, adapter in zip(made.names, made.adapters, strict=True):
                weight = alone.get_submodule(name).weight
                weight.data += adapter.up[tile] @ adapter.down[tile]
        expected = alone(values[:, tile], torch.full((2,), SIDE)).rows.view(2, 5, WIDTH)
        torch.testing.assert_close(rows[:, tile], expected)


def test_every_layer_inside_has_its_rank():
    made = adapted()
    ranks = {name: adapter.down.shape[1] for name, adapter in zip(made.names, made.adapters, strict=True)}
    blocks = [f"trunk.blocks.{index}." for index in range(2)]
    assert ranks == {
        f"{at}{layer}": rank
        for at in blocks
        for layer, rank in (
            ("attention.qkv", 2), ("attention.out", 2), ("feed_forward.up", 3), ("feed_forward.down", 3)
        )
    }  # fmt: skip


def test_gradients_reach_the_adapters_of_their_windows():
    made = adapted()
    rows = made(*pictures(1, 3)).rows.view(3, 5, WIDTH)
    rows[0].sum().backward()
    for adapter in made.adapters:
        assert adapter.up.grad[0].any()
        assert not adapter.up.grad[1].any()
    assert all(value.grad is not None for name, value in made.tower.named_parameters() if "weight" in name)


def test_no_rows():
    made = adapted()
    found = made(*pictures(0, 3))
    assert (found.rows.shape, found.pooled.shape, found.lengths.tolist()) == ((0, WIDTH), (0, WIDTH), [])
    (found.rows.sum() + found.pooled.sum()).backward()
    assert all(value.grad is not None for value in made.parameters())


def test_what_cannot_be():
    with pytest.raises(ConfigError, match="adapters for 2 windows, found 1 tiles"):
        adapted()(*pictures(1, 1))
    with pytest.raises(ConfigError, match="of one size"):
        adapted()(pictures(2, 3)[0], torch.tensor([3, 2]))
    with pytest.raises(ConfigError, match="no linear layer inside a part 'attn'"):
        WindowAdapters(tower=tower(), windows=2, ranks={"attn": 2})
    with pytest.raises(ConfigError, match="at least 1, found 0"):
        WindowAdapters(tower=tower(), windows=0, ranks=RANKS)
