"""One vector per segment, against loops over the segments."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sensorium.nn.heads.pooling import FirstToken, LastToken, MeanToken, Pool
from sensorium.nn.layers.norms import LayerNorm

LENGTHS = torch.tensor([3, 5, 2])
CLOSE = {"atol": 1e-12, "rtol": 0.0}


def rows(lengths: Tensor = LENGTHS) -> Tensor:
    drawn = torch.Generator().manual_seed(0)
    return torch.randn(int(lengths.sum()), 4, dtype=torch.float64, generator=drawn)


CASES = {
    "first": (FirstToken(), lambda tokens: tokens[0]),
    "last": (LastToken(), lambda tokens: tokens[-1]),
    "mean": (MeanToken(), lambda tokens: tokens.mean(0)),
    "mean of the rest": (MeanToken(skip=1), lambda tokens: tokens[1:].mean(0)),
}


@pytest.mark.parametrize("name", CASES)
def test_choices(name: str):
    select, expected = CASES[name]
    x = rows()
    wanted = torch.stack([expected(tokens) for tokens in x.split(LENGTHS.tolist())])
    torch.testing.assert_close(select(x, LENGTHS), wanted, **CLOSE)
    assert select(x[:0], LENGTHS[:0]).shape == (0, 4)


def test_the_mean_of_nothing_is_zero():
    assert MeanToken()(rows(), torch.tensor([3, 0, 7]))[1].tolist() == [0.0] * 4
    assert MeanToken(skip=2)(rows(), torch.tensor([2, 1, 7]))[:2].tolist() == [[0.0] * 4] * 2


def test_a_pool_is_a_choice_then_a_norm_then_a_layer():
    torch.manual_seed(0)
    pool = Pool(
        width=4, select=LastToken(), norm=LayerNorm(width=4, eps=0.1), dense=True, activation="relu"
    ).double()
    last = torch.stack([tokens[-1] for tokens in rows().split(LENGTHS.tolist())])
    normed = (last - last.mean(1, keepdim=True)) / (last.var(1, correction=0, keepdim=True) + 0.1).sqrt()
    layer = pool.dense[0]
    expected = (normed @ layer.weight.T + layer.bias).clamp(min=0)
    torch.testing.assert_close(pool(rows(), LENGTHS), expected, **CLOSE)
    assert pool.width == 4


def test_the_pooler_of_bert_ends_in_a_tanh_and_a_plain_one_has_no_parameters():
    pool = Pool(width=4, select=FirstToken(), dense=True).double()
    first = torch.stack([tokens[0] for tokens in rows().split(LENGTHS.tolist())])
    torch.testing.assert_close(pool(rows(), LENGTHS), pool.dense[0](first).tanh(), **CLOSE)
    assert not list(Pool(width=4, select=FirstToken()).parameters())
