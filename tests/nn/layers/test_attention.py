"""Attention against loops over sequences, heads and queries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sensorium.core import ConfigError
from sensorium.nn.layers.attention import CrossAttention, SelfAttention
from sensorium.nn.layers.cache import KVCache
from sensorium.nn.layers.masks import Mask, causal, everything, packed, padding
from sensorium.nn.layers.norms import RMSNorm
from sensorium.nn.layers.packing import dense, packing, real_places
from sensorium.nn.layers.rotary import Rotary

WIDTH, HEADS, LENGTHS, T = 12, 4, torch.tensor([5, 2, 7]), 7
REAL = real_places(LENGTHS, T)
CLOSE = {"atol": 1e-12, "rtol": 0.0}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Added(nn.Module):
    """Numbers for each head and pair of places of a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(HEADS, T, T))

    def forward(self, grid: tuple[int, ...]) -> Tensor:
        assert grid == (T,)
        return self.table


def made(cls: type[nn.Module], **how) -> nn.Module:
    layer = cls(width=WIDTH, heads=HEADS, **how)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(std=0.5)
    return layer.double()


def projections(layer: nn.Module, x: Tensor, context: Tensor, biases: str) -> list[Tensor]:
    """Queries of ``x`` [t, h, e], keys and values of ``context`` [s, g, e], each by its own linear map."""
    shared = layer.groups * layer.head_width
    sizes = {"q": layer.heads * layer.head_width, "k": shared, "v": shared}
    maps = [("qkv", layer.qkv)] if isinstance(layer, SelfAttention) else [("q", layer.q), ("kv", layer.kv)]
    found = []
    for parts, fused in maps:
        named = [part for part in parts if part in biases]
        bias = {}
        if named:
            bias = dict(zip(named, fused.bias.split([sizes[part] for part in named]), strict=True))
        for part, weight in zip(parts, fused.weight.split([sizes[part] for part in parts]), strict=True):
            made = (x if part == "q" else context) @ weight.T + bias.get(part, 0)
            found.append(made.unflatten(-1, (-1, layer.head_width)))
    return found


def naive(
    layer: nn.Module,
    x: Tensor,
    context: Tensor,
    may: Sequence[Sequence[bool]],
    *,
    biases: str = "qkvo",
    added: Tensor | None = None,
    scale: float | None = None,
    norms: Sequence[nn.Module] = (),
) -> Tensor:
    """One sequence: each query of each head looks at the keys it may."""
    q, k, v = projections(layer, x, context, biases)
    if norms:
        q, k = norms[0](q), norms[1](k)
    scale = 1 / math.sqrt(layer.head_width) if scale is None else scale
    out = torch.zeros(len(x), layer.heads * layer.head_width, dtype=x.dtype)
    for head in range(layer.heads):
        group = head // (layer.heads // layer.groups)
        for i in range(len(x)):
            scores = torch.stack([q[i, head] @ k[j, group] * scale for j in range(len(context))])
            if added is not None:
                scores = scores + added[head, i, : len(context)]
            scores = scores.masked_fill(~torch.tensor(may[i]), -math.inf)
            seen = scores.softmax(0) @ v[:, group]
            out[i, head * layer.head_width : (head + 1) * layer.head_width] = seen
    return out @ layer.out.weight.T + (layer.out.bias if "o" in biases else 0)


def rows(lengths: Tensor = LENGTHS) -> Tensor:
    return torch.randn(int(lengths.sum()), WIDTH, dtype=torch.float64)


def expected(layer: nn.Module, x: Tensor, looks=lambda b, i, j: True, **how) -> Tensor:
    """Each ragged sequence by itself; ``looks`` says who looks at whom."""
    found = []
    for b, own in enumerate(x.split(LENGTHS.tolist())):
        may = [[looks(b, i, j) for j in range(len(own))] for i in range(len(own))]
        found.append(naive(layer, own, own, may, **how))
    return torch.cat(found)


def ragged(layer: nn.Module, x: Tensor, mask: Mask | None = None) -> Tensor:
    return layer(x, packing(REAL), padding(REAL) if mask is None else mask)


@pytest.mark.parametrize("groups", [None, 2, 1])
@pytest.mark.parametrize("head_width", [None, 5])
@pytest.mark.parametrize("biases", ["qkvo", "qvo", "q", "vo", "k", ""])
def test_self_attention(groups: int | None, head_width: int | None, biases: str):
    """Multi-head, grouped and multi-query, with heads of another width, and each projection with or without bias."""
    layer, x = made(SelfAttention, groups=groups, head_width=head_width, biases=biases), rows()
    torch.testing.assert_close(ragged(layer, x), expected(layer, x, biases=biases), **CLOSE)


@pytest.mark.parametrize("groups", [None, 2])
@pytest.mark.parametrize("biases", ["qkvo", "ko", ""])
@pytest.mark.parametrize("scale", [None, 0.9])
def test_cross_attention_sees_no_padding(groups: int | None, biases: str, scale: float | None):
    layer = made(CrossAttention, context_width=10, groups=groups, head_width=5, biases=biases, scale=scale)
    x = torch.randn(3, 4, WIDTH, dtype=torch.float64)
    context = torch.randn(3, T, 10, dtype=torch.float64)
    found = layer(x, context, padding(REAL, queries=4))
    torch.testing.assert_close(
        found, layer(x, context.masked_fill(~REAL[..., None], 1e6), padding(REAL, 4)), **CLOSE
    )
    for b, length in enumerate(LENGTHS.tolist()):
        alone = naive(layer, x[b], context[b, :length], [[True] * length] * 4, biases=biases, scale=scale)
        torch.testing.assert_close(found[b], alone, **CLOSE)


def test_scale():
    layer, x = made(SelfAttention, scale=1.7), rows()
    torch.testing.assert_close(ragged(layer, x), expected(layer, x, scale=1.7), **CLOSE)


def test_norms_of_queries_and_keys_see_the_vectors_of_each_head():
    norms = [made_norm(), made_norm()]
    layer, x = made(SelfAttention, groups=2, norm_query=norms[0], norm_key=norms[1]), rows()
    torch.testing.assert_close(ragged(layer, x), expected(layer, x, norms=norms), **CLOSE)
    for norm in norms:
        nn.init.ones_(norm.weight)
    assert not torch.allclose(ragged(layer, x), expected(layer, x))


def made_norm() -> RMSNorm:
    return RMSNorm(width=WIDTH // HEADS)


@pytest.mark.parametrize("to_left", [False, True])
def test_biases_of_places_and_of_the_mask_add_up_under_a_mask(to_left: bool):
    """With padding, and causal besides."""
    added = Added()
    layer, x = made(SelfAttention, groups=2, relative=added), rows()
    more = torch.randn(3, 1, T, T, dtype=torch.float64)
    mask = replace(padding(REAL), causal=to_left, bias=more, grid=(T,))
    found = ragged(layer, x, mask)
    parts = []
    for b, own in enumerate(x.split(LENGTHS.tolist())):
        may = [[j <= i or not to_left for j in range(len(own))] for i in range(len(own))]
        parts.append(naive(layer, own, own, may, added=added.table + more[b]))
    torch.testing.assert_close(found, torch.cat(parts), **CLOSE)
    found.sum().backward()
    assert added.table.grad is not None


def test_a_bias_alone():
    added = Added()
    layer, x = made(SelfAttention, relative=added), rows(torch.full((3,), T))
    found = layer(x, dense(3, T), Mask(grid=(T,)))
    for b in range(3):
        own = x[b * T : (b + 1) * T]
        alone = naive(layer, own, own, [[True] * T] * T, added=added.table)
        torch.testing.assert_close(found[b * T : (b + 1) * T], alone, **CLOSE)


def test_causal_needs_no_mask_for_padding_on_the_right():
    layer, x = made(SelfAttention), rows()
    torch.testing.assert_close(
        ragged(layer, x, causal()), expected(layer, x, lambda b, i, j: j <= i), **CLOSE
    )


def test_several_texts_in_one_sequence():
    """As they would be in sequences of their own."""
    layer, x = made(SelfAttention), rows()
    segments = torch.arange(3).repeat_interleave(LENGTHS)[None]
    found = layer(x, dense(1, len(x)), packed(segments))
    torch.testing.assert_close(found, ragged(layer, x), **CLOSE)


def test_dropout_of_weights_is_for_training():
    layer, x = made(SelfAttention, dropout=0.5), rows()
    torch.testing.assert_close(ragged(layer.eval(), x), expected(layer, x), **CLOSE)
    nn.init.eye_(layer.out.weight)
    nn.init.zeros_(layer.out.bias)
    one = rows(torch.ones(64, dtype=torch.long))  # each looks at itself alone
    plain = layer(one, dense(64, 1), everything())
    found = layer.train()(one, dense(64, 1), everything())
    left_out = (found.unflatten(1, (HEADS, -1)) == 0).all(-1)
    assert 0.3 < float(left_out.double().mean()) < 0.7
    wanted = torch.where(left_out[..., None], 0, 2 * plain.unflatten(1, (HEADS, -1)))
    torch.testing.assert_close(found.unflatten(1, (HEADS, -1)), wanted, **CLOSE)


def test_a_cache_gives_what_the_whole_gives():
    layer = made(SelfAttention, groups=2, rotary=Rotary(turned=2)).eval()
    x = rows(torch.tensor([6, 6]))
    whole = layer(x, dense(2, 6), causal()).unflatten(0, (2, 6))
    cache, found = KVCache(), []
    for first, last in ((0, 3), (3, 4), (4, 6)):
        part = x.unflatten(0, (2, 6))[:, first:last].flatten(0, 1)
        found.append(layer(part, dense(2, last - first), causal(), cache).unflatten(0, (2, -1)))
    torch.testing.assert_close(torch.cat(found, 1), whole, **CLOSE)
    assert cache.length == 6


@pytest.mark.parametrize("groups", [None, 2])
def test_no_rows_reach_every_parameter(groups: int | None):
    """Or ranks that have some would wait for those that have none."""
    more = torch.randn(1, 1, T, T, dtype=torch.float64, requires_grad=True)
    layer = made(SelfAttention, groups=groups, relative=Added())
    layer(rows()[:0], dense(0, T), Mask(bias=more, grid=(T,))).sum().backward()
    for name, parameter in [*layer.named_parameters(), ("mask", more)]:
        assert parameter.grad is not None, name
    cross = made(CrossAttention, context_width=10, groups=groups)
    cross(torch.zeros(0, 4, WIDTH).double(), torch.zeros(0, T, 10).double(), everything()).sum().backward()
    assert all(parameter.grad is not None for parameter in cross.parameters())


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"width": 13, "heads": 4}, "attention width 13 is not a multiple of its 4 heads"),
        (
            {"width": 12, "heads": 4, "groups": 3},
            "4 heads of queries cannot share 3 heads of keys and values",
        ),
        ({"width": 12, "heads": 4, "groups": 0}, "cannot share 0 heads"),
        ({"width": 12, "heads": 4, "biases": "qkb"}, "biases of the projections qkvo, found 'qkb'"),
    ],
)
def test_what_cannot_be(how, said: str):
    with pytest.raises(ConfigError, match=said):
        SelfAttention(**how)
    with pytest.raises(ConfigError, match=said):
        CrossAttention(**how, context_width=3)
