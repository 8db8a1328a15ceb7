"""Towers of patches against convolutions, sums and loops: any grid, leading tokens, masked and visible patches."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sensorium.core import ConfigError
from sensorium.nn.encoders.patch_tower import PatchEmbedding, PatchTower
from sensorium.nn.heads.pooling import FirstToken, MeanToken, Pool
from sensorium.nn.layers.blocks import block
from sensorium.nn.layers.norms import LayerNorm
from sensorium.nn.layers.relative import RelativeTable
from sensorium.nn.layers.tables import PositionTable
from sensorium.nn.layers.transformer import Transformer

WIDTH, CHANNELS = 12, 3
CLOSE = {"atol": 1e-12, "rtol": 0.0}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def randomised(module: nn.Module) -> Any:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    return module.double()


def embedding(patch: list[int], grid: list[int] | None = None, **how: Any) -> PatchEmbedding:
    positions = PositionTable(grid=grid, width=WIDTH, prefix=how.get("prefix", 1)) if grid else None
    return randomised(PatchEmbedding(patch=patch, channels=CHANNELS, width=WIDTH, positions=positions, **how))


def values(*size: int, n: int = 2) -> Tensor:
    return torch.randn(n, *size, CHANNELS, dtype=torch.float64)


def convolved(part: PatchEmbedding, x: Tensor) -> Tensor:
    """The same linear map as a strided convolution, one row per place."""
    kernel = part.project.weight.unflatten(1, (*part.patch, CHANNELS)).movedim(-1, 1)
    convolution = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}[len(part.patch)]
    maps = convolution(x.movedim(-1, 1), kernel, part.project.bias, stride=part.patch)
    return maps.flatten(2).transpose(1, 2)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("patch", "size", "grid"),
    [
        ([4, 4], (8, 12), (2, 3)),
        ([2, 5], (7, 14), (3, 2)),  # what is no whole patch is cut off on the right and below
        ([3], (10,), (3,)),
        ([2, 3, 4], (5, 6, 9), (2, 2, 2)),  # tubelets
    ],
)
def test_patches_are_a_strided_convolution(patch, size, grid, bias: bool):
    part = embedding(patch, prefix=0, bias=bias)
    x = values(*size)
    assert part.grid(x) == grid
    torch.testing.assert_close(part(x), convolved(part, x), **CLOSE)
    cut = x[:, *(slice(g * p) for g, p in zip(grid, patch, strict=True))]
    assert torch.equal(part(cut), part(x))


@pytest.mark.parametrize(("prefix", "registers"), [(1, 0), (1, 4), (2, 3), (0, 2), (0, 0)])
def test_leading_tokens_and_positions(prefix: int, registers: int):
    """Class tokens have places of their own, registers none."""
    part = embedding([4, 4], [2, 3], prefix=prefix, registers=registers)
    x, table = values(8, 12), part.positions.weight
    assert part.lead == prefix + registers
    found = part(x)
    assert found.shape == (2, prefix + registers + 6, WIDTH)
    if prefix:
        expected = (part.prefix + table[:prefix]).expand(2, -1, -1)
        torch.testing.assert_close(found[:, :prefix], expected, **CLOSE)
    if registers:
        assert torch.equal(found[:, prefix : prefix + registers], part.registers.expand(2, -1, -1))
    torch.testing.assert_close(found[:, prefix + registers :], convolved(part, x) + table[prefix:], **CLOSE)


def test_another_grid_has_stretched_positions():
    part = embedding([4, 4], [2, 3])
    x = values(12, 20)
    table = part.positions((3, 5))
    assert table.shape == (16, WIDTH)
    torch.testing.assert_close(part(x)[:, 1:], convolved(part, x) + table[1:], **CLOSE)


def test_the_mask_token_stands_at_the_place_of_what_is_masked():
    part = embedding([4, 4], [2, 3], mask_token=True)
    x, masked = values(8, 12), torch.rand(2, 6) < 0.5
    plain, found = part(x), part(x, masked)
    assert masked.any()
    assert torch.equal(found[:, 1:][~masked], plain[:, 1:][~masked])
    expected = (part.mask_token + part.positions.weight[1:]).expand(2, -1, -1)
    torch.testing.assert_close(found[:, 1:][masked], expected[masked], **CLOSE)
    assert torch.equal(found[:, 0], plain[:, 0])


def test_values_are_brought_to_range_after_what_is_cut_off():
    class Seen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape == (2, 8, 12, CHANNELS)
            return 2 * x - 1

    part = embedding([4, 4], prefix=0, values=Seen())
    x = values(9, 15)
    torch.testing.assert_close(part(x), convolved(part, 2 * x - 1), **CLOSE)


def test_dropout_comes_last_and_in_training():
    part = embedding([4, 4], [2, 3], dropout=0.5)
    x = values(8, 12)
    plain, found = part.eval()(x), part.train()(x)
    dropped = found == 0
    assert 0.3 < float(dropped.double().mean()) < 0.7
    assert dropped[:, 0].any()
    torch.testing.assert_close(found[~dropped], 2 * plain[~dropped], **CLOSE)


def tower(patch: list[int] | None = None, grid: list[int] | None = None, **how: Any) -> PatchTower:
    leading = {name: how.pop(name) for name in ("prefix", "registers", "mask_token") if name in how}
    return randomised(
        PatchTower(
            embedding=embedding(patch or [4, 4], grid or [2, 3], **leading),
            trunk=Transformer(width=WIDTH, depth=2, block=block(width=WIDTH, heads=3, hidden=20)),
            pool=how.pop("pool", Pool(width=WIDTH, select=FirstToken())),
            **how,
        )
    ).eval()


def read(net: PatchTower, x: Tensor, *also: Any) -> Any:
    return net(x, torch.full((len(x),), x.shape[1]), *also)


@pytest.mark.parametrize(
    ("patch", "grid", "size"), [([4, 4], [2, 3], (8, 12)), ([1, 4, 4], [3, 1, 2], (3, 4, 8))]
)
def test_a_tower_is_its_parts_in_order(patch, grid, size):
    norms = {"norm_in": LayerNorm(width=WIDTH), "norm_out": LayerNorm(width=WIDTH)}
    net = tower(patch, grid, **norms)
    x = values(*size, n=3)
    rows = net.norm_in(net.embedding(x))
    found = read(net, x)
    for one, features in zip(rows, found.segments(), strict=True):
        alone = PatchTower(embedding=net.embedding, trunk=net.trunk, pool=net.pool).read(
            one[None], tuple(grid)
        )
        torch.testing.assert_close(features, net.norm_out(alone.rows), **CLOSE)
    assert torch.equal(found.pooled, found.rows.unflatten(0, (3, -1))[:, 0])
    assert found.lengths.tolist() == [math.prod(grid) + 1] * 3
    assert (net.width, net.pooled_width) == (WIDTH, WIDTH)


def test_batched_is_single():
    net, x = tower(registers=2), values(9, 21, n=4)
    whole = read(net, x)
    for row in range(4):
        alone = read(net, x[row : row + 1])
        torch.testing.assert_close(alone.rows, whole.segments()[row], **CLOSE)
        torch.testing.assert_close(alone.pooled[0], whole.pooled[row], **CLOSE)


def test_the_mean_may_leave_out_what_leads():
    net = tower(registers=2, pool=Pool(width=WIDTH, select=MeanToken(skip=3)))
    found = read(net, values(8, 12))
    expected = torch.stack([features[3:].mean(0) for features in found.segments()])
    torch.testing.assert_close(found.pooled, expected, **CLOSE)


def test_masked_ones_say_nothing():
    net, x = tower(mask_token=True), values(8, 12)
    masked = torch.tensor([[True, False, False, True, False, False], [False] * 6])
    other = x.clone()
    other[0, :4, :4], other[0, 4:, :4] = 9.0, -9.0
    torch.testing.assert_close(read(net, x, masked).rows, read(net, other, masked).rows, **CLOSE)
    torch.testing.assert_close(read(net, x, masked).segments()[1], read(net, x).segments()[1], **CLOSE)


def test_only_visible_ones_are_read_and_keep_their_places():
    net, x = tower(registers=1), values(8, 12)
    masked = torch.tensor(
        [[True, False, False, True, False, False], [False, True, False, False, False, True]]
    )
    found = net.visible(x, masked)
    assert found.lengths.tolist() == [6, 6]
    for row in range(2):
        tokens = net.embedding(x)[row]
        kept = torch.cat([tokens[:2], tokens[2:][~masked[row]]])
        torch.testing.assert_close(found.segments()[row], net.read(kept[None], (2, 3)).rows, **CLOSE)
    torch.testing.assert_close(net.visible(x, torch.zeros_like(masked)).rows, read(net, x).rows, **CLOSE)
    with pytest.raises(ConfigError, match="as many patches of each segment must be visible, found 3 to 5"):
        net.visible(x, masked & (torch.arange(2)[:, None] == 0) | (torch.arange(6) == 1))
    assert net.visible(x[:0], masked[:0]).rows.shape == (0, WIDTH)


def test_relative_positions_are_added_in_every_block():
    net = tower(relative=RelativeTable(grid=[2, 3], heads=3, leading=True))
    x = values(8, 12)
    found = read(net, x)
    bias, rows = net.relative((2, 3)), net.embedding(x).flatten(0, 1)
    assert bias.shape == (1, 3, 7, 7)
    for part in net.trunk.blocks:
        normed = part.norm_attention(rows)
        attended = []
        for one in normed.unflatten(0, (2, 7)):
            q, k, v = part.attention.qkv(one).unflatten(-1, (3, 3, 4)).permute(1, 2, 0, 3)
            weights = (q @ k.transpose(1, 2) / 2 + bias[0]).softmax(-1)
            attended.append((weights @ v).transpose(0, 1).flatten(1))
        rows = rows + part.attention.out(torch.cat(attended))
        rows = rows + part.feed_forward(part.norm_feed_forward(rows))
    torch.testing.assert_close(found.rows, rows, **CLOSE)


def test_no_segments_reach_every_parameter():
    net = tower(registers=2, relative=RelativeTable(grid=[2, 3], heads=3, leading=True)).train()
    found = read(net, values(8, 12, n=0))
    assert found.rows.shape == (0, WIDTH)
    assert found.pooled.shape == (0, WIDTH)
    (found.rows.sum() + found.pooled.sum()).backward()
    unreached = [name for name, parameter in net.named_parameters() if parameter.grad is None]
    assert not unreached


def test_segments_of_several_heights_cannot_be_one_batch():
    """What fills the shorter ones would count as patches."""
    with pytest.raises(ConfigError, match=r"one size: found 8 to 12 along the first axis"):
        tower()(values(12, 12), torch.tensor([12, 8]))
