"""Relative positions against those of transformers."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import BeitConfig, T5Config
from transformers.models.beit.modeling_beit import BeitRelativePositionBias
from transformers.models.swin.modeling_swin import SwinRelativePositionBias
from transformers.models.t5.modeling_t5 import T5Attention

from sensorium.core.errors import ConfigError
from sensorium.nn.layers.attention import SelfAttention
from sensorium.nn.layers.masks import Mask
from sensorium.nn.layers.packing import dense
from sensorium.nn.layers.relative import BucketBias, RelativeTable


def same(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def drawn(table: nn.Module, shape: torch.Size) -> torch.Tensor:
    torch.manual_seed(0)
    weight = torch.randn(shape, dtype=torch.float64)
    table.double().load_state_dict({"weight": weight})
    return weight


@pytest.mark.parametrize("grid", [(7, 7), (3, 5)])
def test_windows_are_those_of_swin(grid: tuple[int, int]):
    theirs = SwinRelativePositionBias(3, grid)
    ours = RelativeTable(grid=list(grid), heads=3)
    weight = drawn(ours, theirs.relative_position_bias_table.shape)
    theirs.relative_position_bias_table.data = weight
    same(ours(grid), theirs())


@pytest.mark.parametrize("grid", [(5, 5), (4, 7), (9, 3), (1, 2)])
def test_tables_with_a_class_token_are_those_of_beit(grid: tuple[int, int]):
    """Their grid is square, as that of all public checkpoints; it is stretched to that of the picture."""
    config = BeitConfig(image_size=40, patch_size=8, num_attention_heads=2)
    theirs = BeitRelativePositionBias(config)
    ours = RelativeTable(grid=[5, 5], heads=2, leading=True)
    weight = drawn(ours, theirs.relative_position_bias_table.shape)
    theirs.relative_position_bias_table.data = weight
    same(ours(grid), theirs(grid))
    tokens = grid[0] * grid[1] + 1
    same(ours(grid), theirs(grid, interpolate_pos_encoding=True, dim_size=tokens))


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("buckets", "farthest"), [(32, 128), (8, 20), (12, 1000)])
def test_buckets_are_those_of_t5(causal: bool, buckets: int, farthest: int):
    config = T5Config(
        d_model=8,
        d_kv=2,
        num_heads=4,
        relative_attention_num_buckets=buckets,
        relative_attention_max_distance=farthest,
    )
    config.is_decoder = causal
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    ours = BucketBias(heads=4, buckets=buckets, farthest=farthest, causal=causal)
    theirs.relative_attention_bias.weight.data = drawn(ours, ours.weight.shape)
    same(ours(300, 300), theirs.compute_bias(300, 300))
    same(ours(1, 70), theirs.compute_bias(1, 70, past_seen_tokens=69))


def test_other_numbers_of_axes():
    ours = RelativeTable(grid=[4], heads=2)
    weight = drawn(ours, ours.weight.shape)
    bias = ours([4])
    for q in range(4):
        for k in range(4):
            same(bias[0, :, q, k], weight[q - k + 3])
    assert RelativeTable(grid=[2, 3, 2], heads=1).weight.shape == (3 * 5 * 3, 1)


def test_the_index_survives_a_device_without_memory():
    """As when weights come from a file: parameters are described, then assigned."""
    with torch.device("meta"):
        ours = RelativeTable(grid=[3, 3], heads=2, leading=True)
    plain = RelativeTable(grid=[3, 3], heads=2, leading=True)
    weight = torch.randn(plain.weight.shape)
    for table in (ours, plain):
        assert list(table.state_dict()) == ["weight"]
        table.load_state_dict({"weight": weight}, assign=True)
    assert torch.equal(ours.to(torch.float64)((3, 3)), plain.double()((3, 3)))


def test_attention_adds_it():
    torch.manual_seed(0)
    table = RelativeTable(grid=[2, 3], heads=2)
    attention = SelfAttention(width=8, heads=2, relative=table).double()
    weight = torch.randn_like(table.weight, requires_grad=True)
    table.weight = nn.Parameter(weight)
    x = torch.randn(12, 8, dtype=torch.float64)
    same(attention(x, dense(2, 6), Mask(grid=(2, 3))), _naive(attention, x, table((2, 3))))
    attention(x, dense(2, 6), Mask(grid=(2, 3))).sum().backward()
    assert table.weight.grad is not None
    assert bool(table.weight.grad.ne(0).any())
    with pytest.raises(ConfigError, match="grid"):
        attention(x, dense(2, 6), Mask())


def test_no_rows_still_give_a_gradient():
    """As every rank must, whatever its batch holds."""
    attention = SelfAttention(width=8, heads=2, relative=RelativeTable(grid=[2, 2], heads=2))
    attention(torch.zeros(0, 8), dense(0, 4), Mask(grid=(2, 2))).sum().backward()
    assert [name for name, p in attention.named_parameters() if p.grad is None or bool(p.grad.any())] == []


def _naive(attention: SelfAttention, x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    q, k, v = attention.qkv(x).unflatten(0, (2, 6)).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-1, -2) / 2 + bias).softmax(-1)
    return attention.out((weights @ v).transpose(1, 2).flatten(2).flatten(0, 1))


def test_impossible_buckets_are_refused():
    with pytest.raises(ConfigError, match="found 3"):
        BucketBias(heads=1, buckets=3)
    with pytest.raises(ConfigError, match="beyond 8"):
        BucketBias(heads=1, buckets=32, farthest=8)
