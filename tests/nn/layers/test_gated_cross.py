"""Gated cross-attention, against that of IDEFICS of transformers."""

from __future__ import annotations

import math

import pytest
import torch
from nn.reference import reference
from torch import Tensor
from transformers import IdeficsConfig
from transformers.models.idefics.modeling_idefics import IdeficsGatedCrossAttentionLayer

from sensorium.core import ConfigError, Spec
from sensorium.nn.layers.attention import CrossAttention
from sensorium.nn.layers.feed_forward import GatedMLP
from sensorium.nn.layers.gated_cross import GatedCrossAttention, Sight
from sensorium.nn.layers.norms import RMSNorm
from sensorium.nn.layers.packing import packing, real_places

WIDTH, CONTEXT, HEADS, HIDDEN = 12, 10, 3, 14
#: The reference normalises in single precision whatever its weights are.
CLOSE = {"atol": 2e-6, "rtol": 0.0}
EXACT = {"atol": 1e-12, "rtol": 0.0}


def layer(norm_heads: bool = False, **gates) -> GatedCrossAttention:
    torch.manual_seed(0)
    each = Spec(RMSNorm, width=WIDTH // HEADS, eps=1e-3)
    return GatedCrossAttention(
        norm=Spec(RMSNorm, width=WIDTH, eps=1e-3),
        attention=CrossAttention(
            width=WIDTH,
            context_width=CONTEXT,
            heads=HEADS,
            biases="",
            norm_query=each.build() if norm_heads else None,
            norm_key=each.build() if norm_heads else None,
        ),
        feed_forward=GatedMLP(width=WIDTH, hidden=HIDDEN),
        **gates,
    )


def material() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Words and rows of two sequences, both padded, how many are real, and which rows a word may see."""
    torch.manual_seed(2)
    words, rows = torch.randn(2, 5, WIDTH).double(), torch.randn(2, 6, CONTEXT).double()
    allowed = torch.rand(2, 5, 6) < 0.5
    allowed[:, :2] = False  # the first words stand before anything to see
    allowed[1, :, 4:] = False  # padding
    return words, rows, torch.tensor([5, 3]), torch.tensor([6, 4]), allowed


def run(ours: GatedCrossAttention, allowed: Tensor) -> Tensor:
    words, rows, many, count, _ = material()
    place, context = packing(real_places(many, 5)), packing(real_places(count, 6))
    rows = context.pad(context.pack(rows))
    return ours(place.pack(words), place, ours.read(rows), Sight(allowed))


def known_and_ours(how: str, norm_heads: bool, kind: str, start: str):
    config = IdeficsConfig(
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        intermediate_size=HIDDEN,
        rms_norm_eps=1e-3,
        alpha_type=kind,
        alpha_initializer=start,
        alphas_initializer_range=0.3,
        qk_layer_norms=norm_heads,
        attn_implementation="sdpa",
    )
    config.vision_config.embed_dim = CONTEXT
    known = reference(lambda asked: IdeficsGatedCrossAttentionLayer(asked, layer_idx=0), config, how)
    state, ours = known.state_dict(), layer(norm_heads, gate_width=WIDTH if kind == "vector" else 1)
    names = {
        "gate_attention": state["alpha_cross_attn"].flatten(),
        "gate_feed_forward": state["alpha_dense"].flatten(),
        "norm_attention.weight": state["input_layernorm.weight"],
        "norm_feed_forward.weight": state["post_attention_layernorm.weight"],
        "attention.q.weight": state["cross_attn.q_proj.weight"],
        "attention.kv.weight": torch.cat([state[f"cross_attn.{part}_proj.weight"] for part in "kv"]),
        "attention.out.weight": state["cross_attn.o_proj.weight"],
        "feed_forward.gate_up.weight": torch.cat(
            [state["mlp.gate_proj.weight"], state["mlp.up_proj.weight"]]
        ),
        "feed_forward.down.weight": state["mlp.down_proj.weight"],
    }
    if norm_heads:
        names["attention.norm_query.weight"] = state["cross_attn.q_layer_norm.weight"]
        names["attention.norm_key.weight"] = state["cross_attn.k_layer_norm.weight"]
    ours.double().load_state_dict(names)
    return known, ours


@pytest.mark.parametrize("how", ["default", "random"])
@pytest.mark.parametrize("norm_heads", [True, False])
@pytest.mark.parametrize(
    ("kind", "start"), [("float", "zeros"), ("float", "ones"), ("vector", "ones"), ("vector", "normal")]
)
def test_is_that_of_idefics(how: str, norm_heads: bool, kind: str, start: str):
    known, ours = known_and_ours(how, norm_heads, kind, start)
    words, rows, many, _, allowed = material()
    bias = torch.zeros(2, 1, 5, 6).double().masked_fill(~allowed[:, None], torch.finfo(torch.float64).min)

    def expected() -> Tensor:
        found = known(
            words,
            image_hidden_states=rows,
            image_attention_mask=bias,
            cross_attention_gate=allowed.any(2).long(),
        )
        return found[real_places(many, 5)]

    torch.testing.assert_close(run(ours, allowed), expected(), **CLOSE)
    known.input_layernorm, known.post_attention_layernorm = ours.norm_attention, ours.norm_feed_forward
    if norm_heads:
        known.cross_attn.q_layer_norm = ours.attention.norm_query
        known.cross_attn.k_layer_norm = ours.attention.norm_key
    torch.testing.assert_close(run(ours, allowed), expected(), **EXACT)


def test_gates_begin_as_asked():
    closed = layer().double()
    words, _, many, _, allowed = material()
    assert torch.equal(run(closed, allowed), words[real_places(many, 5)])
    assert layer(gate_width=WIDTH, gate_mean=1.0).gate_attention.tolist() == [1.0] * WIDTH
    drawn = layer(gate_width=WIDTH, gate_std=0.1).gate_feed_forward
    assert drawn.shape == (WIDTH,)
    assert 0.02 < drawn.std().item() < 0.3
    with pytest.raises(ConfigError, match="1 or the width of the words, 12, found 3"):
        layer(gate_width=3)


def test_words_that_see_nothing_only_go_through_the_feed_forward():
    ours = layer(gate_mean=1.0).double()
    words, _, many, _, _ = material()
    x = words[real_places(many, 5)]
    expected = x + math.tanh(1) * ours.feed_forward(ours.norm_feed_forward(x))
    found = run(ours, torch.zeros(2, 5, 6, dtype=torch.bool))
    torch.testing.assert_close(found, expected, **EXACT)
    found.sum().backward()
    assert all(bool(value.grad.isfinite().all()) for value in ours.parameters())


def test_what_is_not_allowed_is_not_seen():
    ours, (words, rows, many, count, allowed) = layer(gate_mean=1.0).double(), material()
    place, context = packing(real_places(many, 5)), packing(real_places(count, 6))
    before = run(ours, allowed)
    changed = rows.clone()
    changed[0, 3] += 1
    after = ours(place.pack(words), place, ours.read(context.pad(context.pack(changed))), Sight(allowed))
    moved = (before != after).any(1)
    assert torch.equal(moved[:5], allowed[0, :, 3])
    assert not moved[5:].any()


def test_without_rows_every_weight_has_a_gradient():
    ours = layer(gate_mean=1.0).double()
    place = packing(torch.ones(2, 5, dtype=torch.bool))
    nothing = ours.read(torch.zeros(2, 0, CONTEXT, dtype=torch.float64))
    words = material()[0]
    found = ours(place.pack(words), place, nothing, Sight(torch.zeros(2, 5, 0, dtype=torch.bool)))
    expected = words.flatten(0, 1)
    expected = expected + math.tanh(1) * ours.feed_forward(ours.norm_feed_forward(expected))
    torch.testing.assert_close(found, expected, **EXACT)
    found.sum().backward()
    assert all(bool(value.grad.isfinite().all()) for value in ours.parameters())
