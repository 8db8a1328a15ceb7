"""Towers of tokens: padding changes nothing, dropout is for training, positions and types are where they belong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sensorium.core import ConfigError, Spec
from sensorium.nn.encoders.token_tower import TokenEmbedding, TokenTower
from sensorium.nn.heads.pooling import FirstToken, LastToken, Pool
from sensorium.nn.layers.attention import SelfAttention
from sensorium.nn.layers.blocks import PostNorm
from sensorium.nn.layers.drop_path import Dropout
from sensorium.nn.layers.feed_forward import MLP
from sensorium.nn.layers.norms import LayerNorm
from sensorium.nn.layers.transformer import Transformer

WIDTH, VOCABULARY = 12, 30
LENGTHS = torch.tensor([3, 7, 1, 5])
CLOSE = {"atol": 1e-10, "rtol": 0.0}


def tower(rate: float = 0.0, **changes) -> TokenTower:
    """BERT's with three heads."""
    torch.manual_seed(0)
    block = Spec(
        PostNorm,
        norm=Spec(LayerNorm, width=WIDTH, eps=1e-12),
        attention=Spec(SelfAttention, width=WIDTH, heads=3, dropout=rate),
        feed_forward=Spec(MLP, width=WIDTH, hidden=20, activation="gelu"),
        branch=Spec(Dropout, rate=rate),
    )
    embedding = {
        "vocabulary": VOCABULARY,
        "width": WIDTH,
        "length": 8,
        "norm": LayerNorm(width=WIDTH),
        "dropout": rate,
    }
    causal = changes.pop("causal", False)
    return TokenTower(
        embedding=TokenEmbedding(**(embedding | changes)),
        trunk=Transformer(width=WIDTH, depth=2, block=block),
        pool=Pool(width=WIDTH, select=LastToken() if causal else FirstToken()),
        causal=causal,
    ).double()


def ids(seed: int = 0) -> Tensor:
    return torch.randint(0, VOCABULARY, (4, 7), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("causal", [False, True])
def test_padding_and_neighbours_change_nothing(causal: bool):
    net = tower(causal=causal, types=2)
    whole = net(ids(), LENGTHS, ids(1) % 2)
    other = net(ids().masked_fill(torch.arange(7) >= LENGTHS[:, None], 9), LENGTHS, ids(1) % 2)
    torch.testing.assert_close(whole.rows, other.rows, **CLOSE)
    for row, (length, features) in enumerate(zip(LENGTHS.tolist(), whole.segments(), strict=True)):
        alone = net(ids()[row : row + 1, :length], LENGTHS[row : row + 1], ids(1)[row : row + 1, :length] % 2)
        torch.testing.assert_close(alone.rows, features, **CLOSE)
        torch.testing.assert_close(alone.pooled[0], whole.pooled[row], **CLOSE)


def test_only_left_to_right_is_blind_to_what_follows():
    changed = ids().clone()
    changed[1, 6] = (changed[1, 6] + 1) % VOCABULARY
    for causal in (False, True):
        net = tower(causal=causal)
        before, after = (net(values, LENGTHS).segments()[1] for values in (ids(), changed))
        assert torch.allclose(before[:6], after[:6]) is causal


def test_dropout_is_for_training_and_everywhere():
    net, plain = tower(rate=0.5), tower()
    torch.testing.assert_close(net.eval()(ids(), LENGTHS).rows, plain(ids(), LENGTHS).rows, **CLOSE)
    net.train()
    for part in (
        net.embedding.dropout,
        net.trunk.blocks[0].branch_attention,
        net.trunk.blocks[0].branch_feed_forward,
    ):
        assert part.p == 0.5
    assert not torch.allclose(net(ids(), LENGTHS).rows, net(ids(), LENGTHS).rows)


def test_positions_begin_at_their_offset():
    net, shifted = tower(), tower(offset=2)
    with torch.no_grad():
        shifted.load_state_dict(net.state_dict() | {"embedding.position.weight": torch.zeros(10, WIDTH)})
        shifted.embedding.position.weight[2:] = net.embedding.position.weight
    torch.testing.assert_close(shifted(ids(), LENGTHS).rows, net(ids(), LENGTHS).rows, **CLOSE)


def test_without_types_all_are_of_the_first():
    net = tower(types=3)
    zeros = torch.zeros_like(ids())
    torch.testing.assert_close(net(ids(), LENGTHS).rows, net(ids(), LENGTHS, zeros).rows, **CLOSE)
    assert not torch.allclose(net(ids(), LENGTHS).rows, net(ids(), LENGTHS, zeros + 1).rows)


def test_more_tokens_than_places():
    with pytest.raises(ConfigError, match=r"9 tokens .* 8 places"):
        tower()(torch.zeros(1, 9, dtype=torch.long), torch.tensor([9]))


def test_an_embedding_is_a_sum_then_a_norm_then_a_map():
    torch.manual_seed(0)
    made = TokenEmbedding(
        vocabulary=VOCABULARY, width=5, length=8, types=2, norm=LayerNorm(width=5, eps=0.1), project=WIDTH
    ).double()
    flat, places, types = ids().flatten(), torch.arange(7).repeat(4), ids(1).flatten() % 2
    x = made.token.weight[flat] + made.position.weight[places] + made.kind.weight[types]
    normed = (x - x.mean(1, keepdim=True)) / (x.var(1, correction=0, keepdim=True) + 0.1).sqrt()
    expected = normed @ made.project.weight.T + made.project.bias
    torch.testing.assert_close(made(flat, places, types), expected, **CLOSE)


def test_the_last_norm_is_that_of_rows_and_of_what_is_pooled():
    net, norm = tower(causal=True), LayerNorm(width=WIDTH, eps=0.5).double()
    before = net(ids(), LENGTHS)
    net.norm_out = norm
    after = net(ids(), LENGTHS)
    torch.testing.assert_close(after.rows, norm(before.rows), **CLOSE)
    torch.testing.assert_close(after.pooled, norm(before.pooled), **CLOSE)


def test_no_texts_reach_every_parameter():
    net = tower(types=2).train()
    found = net(ids()[:0], LENGTHS[:0])
    assert found.rows.shape == found.pooled.shape == (0, WIDTH)
    found.pooled.sum().backward()
    assert not [name for name, parameter in net.named_parameters() if parameter.grad is None]
