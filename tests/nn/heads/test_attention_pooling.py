from __future__ import annotations

import pytest
import torch
from torch import nn

from sensorium.core import ConfigError
from sensorium.nn.heads.attention_pooling import AttentionPool
from sensorium.nn.heads.pooling import FirstToken, Joined, MeanToken, Pool
from sensorium.nn.layers.feed_forward import MLP
from sensorium.nn.layers.norms import LayerNorm


def pool(heads: int = 3) -> AttentionPool:
    torch.manual_seed(0)
    made = AttentionPool(
        width=12, heads=heads, norm=LayerNorm(width=12), feed_forward=MLP(width=12, hidden=20)
    )
    return made.double()


def rows(lengths: list[int]) -> torch.Tensor:
    return torch.randn(sum(lengths), 12, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("lengths", [[5, 5], [4, 1, 7]])
def test_it_is_the_attention_of_torch_over_the_tokens_of_each_segment(lengths):
    ours, theirs = pool(), nn.MultiheadAttention(12, 3, batch_first=True).double()
    theirs.load_state_dict(
        {
            "in_proj_weight": ours.qkv.weight,
            "in_proj_bias": ours.qkv.bias,
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    x = rows(lengths)
    found = ours(x, torch.tensor(lengths))
    for one, segment in zip(found, x.split(lengths), strict=True):
        seen = theirs(ours.query[None], segment, segment)[0][0]
        torch.testing.assert_close(one, seen + ours.feed_forward(ours.norm(seen)))


def test_no_segments():
    assert pool()(rows([]), torch.zeros(0, dtype=torch.long)).shape == (0, 12)


def test_heads_share_the_width():
    with pytest.raises(ConfigError, match="12 is not a multiple of its 5 heads"):
        pool(heads=5)


def test_several_vectors_as_one():
    x, lengths = rows([3, 2]), torch.tensor([3, 2])
    found = Joined(parts=[FirstToken(), MeanToken(skip=1)])(x, lengths)
    torch.testing.assert_close(found[0], torch.cat([x[0], x[1:3].mean(0)]))
    torch.testing.assert_close(found[1], torch.cat([x[3], x[4]]))


def test_a_pooler_of_another_width():
    made = Pool(width=7, inner=12, select=FirstToken(), dense=True, activation="linear").double()
    x = rows([3, 2])
    torch.testing.assert_close(made(x, torch.tensor([3, 2])), made.dense[0](x[[0, 3]]))
