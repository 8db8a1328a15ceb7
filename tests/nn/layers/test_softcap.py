"""Attention with bent products against the formula, and in a layer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sensorium.core.errors import ConfigError
from sensorium.nn.layers.attention import SelfAttention, attend
from sensorium.nn.layers.cache import KVCache
from sensorium.nn.layers.masks import Mask, causal, sequences
from sensorium.nn.layers.packing import dense
from sensorium.nn.layers.softcap import attend_softcapped


def heads(queries: int = 4, groups: int = 2, tokens: int = 6, keys: int = 6) -> list[torch.Tensor]:
    torch.manual_seed(0)
    sizes = [(queries, tokens), (groups, keys), (groups, keys)]
    return [torch.randn(2, h, t, 8, dtype=torch.float64) * 3 for h, t in sizes]


def formula(q, k, v, softcap: float, scale: float, allowed: torch.Tensor | None) -> torch.Tensor:
    """Head by head, with keys and values repeated."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    products = softcap * torch.tanh(torch.einsum("bhte,bhse->bhts", q, k) * scale / softcap)
    if allowed is not None:
        products[~allowed.expand_as(products)] = -torch.inf
    return torch.einsum("bhts,bhse->bhte", products.softmax(-1), v)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("mask", [Mask(), causal(), causal().within(3)])
def test_it_is_the_formula(groups: int, mask: Mask):
    q, k, v = heads(groups=groups)
    places = torch.arange(6)
    apart = places[:, None] - places
    allowed = (apart >= 0) & (apart < (mask.near or 9)) if mask.causal else None
    found = attend(q, k, v, mask, softcap=2.0, scale=0.3)
    torch.testing.assert_close(found, formula(q, k, v, 2.0, 0.3, allowed), atol=1e-12, rtol=0)


def test_what_is_added_is_not_bent():
    q, k, v = heads()
    bias = 50 * torch.randn(1, 4, 6, 6, dtype=torch.float64)
    k4, v4 = (x.repeat_interleave(2, 1) for x in (k, v))
    products = 2 * torch.tanh((q @ k4.transpose(2, 3)) * 8**-0.5 / 2) + bias
    found = attend(q, k, v, Mask(), bias=bias, softcap=2.0)
    torch.testing.assert_close(found, products.softmax(-1) @ v4, atol=1e-12, rtol=0)


def test_a_wide_range_bends_nothing():
    q, k, v = heads()
    found = attend(q, k, v, causal(), softcap=1e7)
    torch.testing.assert_close(found, attend(q, k, v, causal()), atol=1e-9, rtol=0)


def test_sequences_apart_are_as_alone():
    q, k, v = heads()
    together = attend(q, k, v, sequences(torch.tensor([2, 4])), softcap=1.0)
    parts = [attend(*(x[:, :, s] for x in (q, k, v)), causal(), softcap=1.0) for s in (slice(2), slice(2, 6))]
    torch.testing.assert_close(together, torch.cat(parts, 2), atol=1e-12, rtol=0)


def test_on_from_a_cache():
    torch.manual_seed(0)
    layer = SelfAttention(width=16, heads=4, groups=2, softcap=0.5).double()
    x = torch.randn(5, 16, dtype=torch.float64)
    whole, cache = layer(x, dense(1, 5), causal()), KVCache()
    steps = [layer(x[:3], dense(1, 3), causal(), cache), layer(x[3:], dense(1, 2), causal(), cache)]
    torch.testing.assert_close(torch.cat(steps), whole, atol=1e-12, rtol=0)
    layer.softcap = None
    assert not torch.allclose(layer(x, dense(1, 5), causal()), whole, atol=1e-3)


def test_weights_are_left_out_in_training():
    q, k, v = heads()
    more = {"mask": None, "causal": True, "softcap": 2.0, "scale": None}
    torch.manual_seed(1)
    found = attend_softcapped(q, k, v, dropout=0.5, **more)
    products = 2 * torch.tanh((q @ k.repeat_interleave(2, 1).transpose(2, 3)) * 8**-0.5 / 2)
    products[..., ~torch.ones(6, 6, dtype=torch.bool).tril()] = -torch.inf
    torch.manual_seed(1)
    expected = F.dropout(products.softmax(-1), 0.5) @ v.repeat_interleave(2, 1)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_a_range_of_nothing_is_refused():
    with pytest.raises(ConfigError, match="softcap must be above 0, found 0"):
        SelfAttention(width=16, heads=4, softcap=0.0)
