"""Patches in squares: frames and windows see themselves alone, each segment as if it were by itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sensorium.core import ConfigError, Spec
from sensorium.nn.encoders.merged_tower import MergedTower, PatchEmbedding
from sensorium.nn.heads.pooling import MeanToken, Pool
from sensorium.nn.layers.attention import SelfAttention
from sensorium.nn.layers.blocks import PreNorm
from sensorium.nn.layers.feed_forward import MLP
from sensorium.nn.layers.norms import LayerNorm
from sensorium.nn.layers.rotary import Rotary
from sensorium.nn.layers.transformer import Transformer

WIDTH, BYTES = 16, 2 * 2 * 2 * 3
LAYOUT = torch.tensor([[1, 6, 4], [2, 2, 6], [1, 8, 8]])


def tower(**changes: Any) -> MergedTower:
    torch.manual_seed(0)
    block = Spec(
        PreNorm,
        norm=Spec(LayerNorm, width=WIDTH),
        attention=Spec(SelfAttention, width=WIDTH, heads=2, rotary=Spec(Rotary, turned=8, axes=2)),
        feed_forward=Spec(MLP, width=WIDTH, hidden=24),
    )
    made = MergedTower(
        embedding=PatchEmbedding(patch=2, frames=2, channels=3, width=WIDTH),
        trunk=Transformer(width=WIDTH, depth=2, block=block),
        pool=Pool(width=WIDTH, select=MeanToken()),
        **changes,
    )
    return made.double().eval()


def values(layout: Tensor = LAYOUT) -> tuple[Tensor, Tensor]:
    lengths = layout.prod(1)
    generator = torch.Generator().manual_seed(1)
    found = torch.randn(len(lengths), int(lengths.max()), BYTES, generator=generator, dtype=torch.float64)
    return found, lengths


@pytest.mark.parametrize("windows", [{}, {"window": 4}, {"window": 4, "whole": [1]}])
@torch.no_grad()
def test_a_batch_is_one_by_one(windows: dict[str, Any]):
    made = tower(**windows)
    given, lengths = values()
    found = made(given, lengths, LAYOUT)
    assert found.lengths.tolist() == [24, 24, 64]
    for row, segment in enumerate(found.segments()):
        length = int(lengths[row])
        one = made(given[row : row + 1, :length], lengths[row : row + 1], LAYOUT[row : row + 1])
        torch.testing.assert_close(one.rows, segment)
        torch.testing.assert_close(one.pooled[0], segment.mean(0))


@torch.no_grad()
def seen(made: MergedTower, layout: Tensor, patch: int) -> list[int]:
    """Which patches change with one of them."""
    given, lengths = values(layout)
    before = made(given, lengths, layout).rows
    given[0, patch] += 1
    return (made(given, lengths, layout).rows != before).any(1).nonzero()[:, 0].tolist()


def test_frames_do_not_see_each_other():
    assert seen(tower(), torch.tensor([[2, 2, 6]]), 0) == list(range(12))
    assert seen(tower(), torch.tensor([[2, 2, 6]]), 12) == list(range(12, 24))


def test_windows_do_not_see_each_other():
    """2 x 3 squares of 2 x 2 patches, in windows of 2 x 2 squares: the last column is alone."""
    layout = torch.tensor([[1, 4, 6]])
    left, right = [*range(8), *range(12, 20)], [*range(8, 12), *range(20, 24)]
    assert seen(tower(window=4), layout, 0) == left
    assert seen(tower(window=4), layout, 22) == right
    assert seen(tower(window=4, whole=[0, 1]), layout, 0) == list(range(24))


@torch.no_grad()
def test_windows_that_hold_everything_change_nothing():
    given, lengths = values()
    expected = tower()(given, lengths, LAYOUT).rows
    torch.testing.assert_close(tower(window=8)(given, lengths, LAYOUT).rows, expected)
    torch.testing.assert_close(tower(window=2, whole=[0, 1])(given, lengths, LAYOUT).rows, expected)


@pytest.mark.parametrize("windows", [{}, {"window": 4}])
def test_no_segments(windows: dict[str, Any]):
    """Every parameter takes part."""
    made = tower(**windows)
    found = made(torch.zeros(0, 4, BYTES, dtype=torch.float64), torch.zeros(0, dtype=torch.long))
    assert found.rows.shape == (0, WIDTH)
    found.rows.sum().backward()
    assert all(parameter.grad is not None for parameter in made.parameters())


@pytest.mark.parametrize(
    ("layout", "match"),
    [
        (None, "need a layout of time, rows and columns of patches, found none"),
        (torch.tensor([[6, 4]]), "found none"),
        (torch.tensor([[1, 6, 6]]), r"found the layouts \[\[1, 6, 6\]\] of \[24\] patches"),
        (torch.tensor([[1, 3, 8]]), "must be multiples of 2"),
    ],
)
def test_layouts_that_do_not_fit(layout: Tensor | None, match: str):
    given, lengths = values(LAYOUT[:1])
    with pytest.raises(ConfigError, match=match):
        tower()(given, lengths, layout)


def test_windows_are_of_whole_squares():
    with pytest.raises(ConfigError, match="windows of 3 patches cannot be made of squares of 2 x 2"):
        tower(window=3)
