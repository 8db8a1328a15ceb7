"""Rotary positions against those of transformers, and on from a cache."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import GlmConfig, LlamaConfig, Qwen2VLConfig
from transformers.models.glm import modeling_glm as glm
from transformers.models.llama import modeling_llama as llama
from transformers.models.qwen2_vl import modeling_qwen2_vl as qwen

from sensorium.core.errors import ConfigError
from sensorium.nn.layers.attention import SelfAttention
from sensorium.nn.layers.cache import KVCache
from sensorium.nn.layers.masks import Mask, causal
from sensorium.nn.layers.packing import dense
from sensorium.nn.layers.rotary import Rotary, grid_places


def queries_and_keys(heads: int, groups: int, tokens: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    q = torch.randn(2, heads, tokens, width, dtype=torch.float64)
    return q, torch.randn(2, groups, tokens, width, dtype=torch.float64)


@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
def test_halves_are_those_of_llama(base: float):
    config = LlamaConfig(
        hidden_size=48, num_attention_heads=4, rope_parameters={"rope_type": "default", "rope_theta": base}
    )
    q, k = queries_and_keys(4, 2, 7, 12)
    places = torch.tensor([[0, 1, 2, 3, 4, 5, 6], [3, 9, 100, 101, 999, 2000, 2001]])
    cos, sin = llama.LlamaRotaryEmbedding(config)(q, places)
    expected = llama.apply_rotary_pos_emb(q, k, cos, sin)
    torch.testing.assert_close(Rotary(turned=12, base=base)(q, k, places), expected, atol=1e-12, rtol=0)


def test_neighbours_of_a_part_are_those_of_glm():
    config = GlmConfig(
        hidden_size=64,
        num_attention_heads=4,
        head_dim=16,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5},
    )
    q, k = queries_and_keys(4, 2, 5, 16)
    places = torch.arange(4, 9)[None].expand(2, -1)
    cos, sin = glm.GlmRotaryEmbedding(config)(q, places)
    assert cos.shape[-1] == 8
    expected = glm.apply_rotary_pos_emb(q, k, cos, sin)
    found = Rotary(turned=8, neighbours=True)(q, k, places)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert torch.equal(found[0][..., 8:], q[..., 8:])


def test_two_axes_are_those_of_qwen2_vl():
    """Its own function turns in single precision; the same formula of LLaMA does not."""
    config = Qwen2VLConfig(vision_config={"embed_dim": 64, "num_heads": 4}).vision_config
    q, k = queries_and_keys(4, 4, 15, 16)
    places = grid_places((3, 5))
    assert places[6].tolist() == [1, 1]
    cos, sin = qwen.Qwen2VLVisionRotaryEmbedding(config)(q, places)
    expected = llama.apply_rotary_pos_emb(q, k, cos.double(), sin.double(), unsqueeze_dim=0)
    found = Rotary(turned=16, axes=2)(q, k, places[None])
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_products_depend_on_distances_alone():
    q, k = queries_and_keys(2, 2, 6, 8)
    turn = Rotary(turned=8, neighbours=True)
    near, far = (turn(q, k, torch.arange(start, start + 6)[None]) for start in (0, 40))
    products = [a @ b.transpose(-1, -2) for a, b in (near, far)]
    torch.testing.assert_close(*products, atol=1e-4, rtol=0)
    assert not torch.allclose(products[0], q @ k.transpose(-1, -2), atol=1e-2)


def test_places_count_on_from_a_cache():
    torch.manual_seed(0)
    attention = SelfAttention(width=16, heads=4, groups=2, rotary=Rotary(turned=4)).double()
    x = torch.randn(2 * 6, 16, dtype=torch.float64)
    whole = attention(x, dense(2, 6), causal()).unflatten(0, (2, 6))
    cache, parts = KVCache(), []
    for start, stop in ((0, 3), (3, 5), (5, 6)):
        part = x.unflatten(0, (2, 6))[:, start:stop].flatten(0, 1)
        parts.append(attention(part, dense(2, stop - start), causal(), cache).unflatten(0, (2, -1)))
    assert cache.length == 6
    torch.testing.assert_close(torch.cat(parts, 1), whole, atol=1e-12, rtol=0)


def test_given_places_count():
    torch.manual_seed(0)
    attention = SelfAttention(width=16, heads=4, rotary=Rotary(turned=4)).double()
    x = torch.randn(4, 16, dtype=torch.float64)
    order = torch.tensor([2, 0, 3, 1])
    straight = attention(x, dense(1, 4), Mask())
    mixed = attention(x[order], dense(1, 4), Mask(positions=order[None]))
    torch.testing.assert_close(mixed, straight[order], atol=1e-12, rtol=0)


def test_half_precision_turns_by_exact_angles():
    q, k = queries_and_keys(1, 1, 2, 8)
    places = torch.tensor([[30_000, 30_001]])
    exact, _ = Rotary(turned=8)(q, k, places)
    rough, _ = Rotary(turned=8).bfloat16()(q.bfloat16(), k.bfloat16(), places)
    torch.testing.assert_close(rough.double(), exact, atol=0.05, rtol=0)


def test_what_cannot_be_shared_is_refused():
    with pytest.raises(ConfigError, match="found 6"):
        Rotary(turned=6, axes=2)
    q, k = queries_and_keys(1, 1, 2, 8)
    with pytest.raises(ConfigError, match="places of 2 axes"):
        Rotary(turned=8, axes=2)(q, k, torch.zeros(1, 2, 3, dtype=torch.long))


def test_layers_that_are_alike_share_the_turns(monkeypatch: pytest.MonkeyPatch):
    """One computation of cosines in a pass, whatever is in the cache; another pass has its own."""
    torch.manual_seed(0)
    made = []
    real = Rotary.turns
    monkeypatch.setattr(Rotary, "turns", lambda self, *given: made.append(1) or real(self, *given))
    bases = [10_000.0, 10_000.0, 500.0]
    layers = [SelfAttention(width=16, heads=4, rotary=Rotary(turned=4, base=base)).double() for base in bases]
    caches = [KVCache() for _ in layers]
    mask, x = causal(), torch.randn(4, 16, dtype=torch.float64)
    found = []
    for part in (x[:3], x[3:]):
        before = len(made)
        found.append([one(part, dense(1, len(part)), mask, c) for one, c in zip(layers, caches, strict=True)])
        assert len(made) - before == 2
    for one, first, last in zip(layers, *found, strict=True):
        whole = one(x, dense(1, 4), causal())
        torch.testing.assert_close(torch.cat([first, last]), whole, atol=1e-12, rtol=0)


def test_a_mask_with_other_positions_shares_nothing():
    torch.manual_seed(0)
    attention = SelfAttention(width=16, heads=4, rotary=Rotary(turned=4)).double()
    x, mask = torch.randn(3, 16, dtype=torch.float64), Mask(positions=torch.tensor([[0, 1, 2]]))
    attention(x, dense(1, 3), mask)
    other = torch.tensor([[0, 5, 9]])
    found = attention(x, dense(1, 3), replace(mask, positions=other))
    torch.testing.assert_close(found, attention(x, dense(1, 3), Mask(positions=other)), atol=0, rtol=0)
