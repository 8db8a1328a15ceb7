"""Placements of norms against their formulas, and against layers of transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import CohereConfig, Gemma3TextConfig
from transformers.models.cohere import modeling_cohere as cohere
from transformers.models.gemma3 import modeling_gemma3 as gemma

from sensorium.core import ConfigError, Spec
from sensorium.nn.layers.attention import SelfAttention
from sensorium.nn.layers.blocks import Block, Parallel, PostNorm, PreNorm, Sandwich, block
from sensorium.nn.layers.drop_path import LayerScale
from sensorium.nn.layers.feed_forward import MLP, GatedMLP, ModalityExperts
from sensorium.nn.layers.masks import causal, everything
from sensorium.nn.layers.norms import LayerNorm, RMSNorm
from sensorium.nn.layers.packing import dense
from sensorium.nn.layers.rotary import Rotary

WIDTH = 12
PLACE, MASK = dense(3, 5), causal()
CLOSE = {"atol": 1e-12, "rtol": 0.0}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def randomised(module: nn.Module) -> Any:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.5)
    return module.double()


def made(placement: type[Block], **also: Any) -> Any:
    return randomised(block(width=WIDTH, heads=3, hidden=20, placement=placement, **also).build())


def rows(count: int = 15) -> Tensor:
    return torch.randn(count, WIDTH, dtype=torch.float64)


def written_out(part: Any, x: Tensor) -> Tensor:
    """The formula of each placement; a branch scales what is added."""

    def attend(x: Tensor) -> Tensor:
        return part.attention(x, PLACE, MASK)

    def scales() -> list[Tensor]:
        branches = part.branch_attention, part.branch_feed_forward
        return [branch.weight if isinstance(branch, LayerScale) else torch.ones(()) for branch in branches]

    one, two = scales()
    if isinstance(part, PreNorm):
        x = x + one * attend(part.norm_attention(x))
        return x + two * part.feed_forward(part.norm_feed_forward(x))
    if isinstance(part, PostNorm):
        x = part.norm_attention(x + one * attend(x))
        return part.norm_feed_forward(x + two * part.feed_forward(x))
    if isinstance(part, Sandwich):
        x = x + one * part.norm_attended(attend(part.norm_attention(x)))
        return x + two * part.norm_fed(part.feed_forward(part.norm_feed_forward(x)))
    normed = part.norm(x)
    return x + one * attend(normed) + two * part.feed_forward(normed)


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("placement", [PreNorm, PostNorm, Sandwich, Parallel])
def test_placement(placement: type[Block], scaled: bool):
    part = made(placement, branch=Spec(LayerScale, width=WIDTH) if scaled else None)
    x = rows()
    torch.testing.assert_close(part(x, PLACE, MASK), written_out(part, x), **CLOSE)
    assert len({id(module) for module in part.modules() if isinstance(module, LayerNorm)}) == len(part.norms)
    assert sum(isinstance(module, LayerScale) for module in part.modules()) == 2 * scaled


@pytest.mark.parametrize("placement", [PreNorm, Sandwich, Parallel])
def test_a_dropped_layer_adds_nothing_and_another_more(placement: type[Block]):
    """Also where what is added was normalised, which would undo the scaling."""
    part = made(placement)
    part.rate = 0.25
    x = rows()
    plain = part.eval()(x, PLACE, MASK)
    torch.testing.assert_close(plain, written_out(part, x), **CLOSE)
    part.train()
    parts = []
    for first in (0.0, 1 / 0.75):
        for second in (0.0, 1 / 0.75):
            parts.append(scaled(part, x, first, second))
    seen = set()
    for _ in range(40):
        found = part(x, PLACE, MASK).unflatten(0, (3, 5))
        for sequence in range(3):
            matches = [
                number
                for number, wanted in enumerate(parts)
                if torch.allclose(found[sequence], wanted.unflatten(0, (3, 5))[sequence], **CLOSE)
            ]
            assert len(matches) == 1
            seen.update(matches)
    assert seen == {0, 1, 2, 3}


def scaled(part: Any, x: Tensor, first: float, second: float) -> Tensor:
    """With what is added times these."""
    rate, part.rate = part.rate, 0.0
    branches = part.branch_attention, part.branch_feed_forward
    part.branch_attention, part.branch_feed_forward = times(first), times(second)
    found = part(x, PLACE, MASK)
    part.rate, (part.branch_attention, part.branch_feed_forward) = rate, branches
    return found


def times(value: float) -> nn.Module:
    scale = LayerScale(width=WIDTH).double()
    nn.init.constant_(scale.weight, value)
    return scale


def test_after_a_norm_a_dropped_layer_leaves_the_stream_normalised():
    part = made(PostNorm)
    part.rate = 1 - 1e-12
    x = rows()
    found = part.train()(x, PLACE, MASK)
    torch.testing.assert_close(found, part.norm_feed_forward(part.norm_attention(x)), **CLOSE)


def test_the_kind_reaches_the_experts():
    experts = Spec(ModalityExperts, width=WIDTH, hidden=8, experts=2)
    part = randomised(block(width=WIDTH, heads=3, hidden=8).replace(feed_forward=experts).build())
    x, kind = rows(), torch.arange(15) % 2
    found = part(x, PLACE, MASK, kind)
    for own in (0, 1):
        torch.testing.assert_close(found[kind == own], part(x, PLACE, MASK, own)[kind == own], **CLOSE)
    assert not torch.allclose(found, part(x, PLACE, MASK))


def test_the_usual_block():
    made = block(width=8, heads=2, hidden=16, activation="relu", eps=0.1, biases="qv", dropout=0.2).build()
    assert isinstance(made, PreNorm)
    assert made.norm_attention.eps == made.norm_feed_forward.eps == 0.1
    assert isinstance(made.feed_forward, MLP)
    assert made.feed_forward.up.out_features == 16
    assert isinstance(made.feed_forward.activation, nn.ReLU)
    assert made.attention.heads == 2
    assert made.attention.dropout == 0.2
    assert made.attention.qkv.biased == [True, False, True]
    assert made.attention.out.bias is None


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_rates_that_cannot_be(rate: float):
    with pytest.raises(ConfigError, match="drop_path must be at least 0 and below 1"):
        block(width=8, heads=2, hidden=16).replace(drop_path=rate).build()


def take_over(ours: nn.Module, theirs: nn.Module, norms: dict[str, str]) -> None:
    """The numbers of a layer of transformers with grouped attention and a gated feed-forward."""
    held = theirs.state_dict()
    taken = {
        "attention.qkv.weight": torch.cat([held[f"self_attn.{name}_proj.weight"] for name in "qkv"]),
        "attention.out.weight": held["self_attn.o_proj.weight"],
        "feed_forward.gate_up.weight": torch.cat(
            [held[f"mlp.{name}_proj.weight"] for name in ("gate", "up")]
        ),
        "feed_forward.down.weight": held["mlp.down_proj.weight"],
        **{f"{own}.weight": held[f"{name}.weight"] for own, name in norms.items()},
    }
    ours.load_state_dict(taken)


SIZES = {"hidden_size": 24, "intermediate_size": 20, "num_attention_heads": 4, "num_key_value_heads": 2}
SINGLE = {"atol": 5e-6, "rtol": 0.0}  # their norms compute in single precision


def test_parallel_is_the_layer_of_cohere():
    config = CohereConfig(**SIZES, layer_norm_eps=0.01, attn_implementation="sdpa")
    theirs = randomised(cohere.CohereDecoderLayer(config, 0)).eval()
    ours = Parallel(
        norm=Spec(LayerNorm, width=24, eps=0.01, bias=False),
        attention=SelfAttention(
            width=24, heads=4, groups=2, biases="", rotary=Rotary(turned=6, base=500_000.0, neighbours=True)
        ),
        feed_forward=GatedMLP(width=24, hidden=20),
    ).double()
    take_over(ours, theirs, {"norm": "input_layernorm"})
    x = torch.randn(3, 5, 24, dtype=torch.float64)
    turned = cohere.CohereRotaryEmbedding(config)(x, torch.arange(5)[None])
    expected = theirs(x, position_embeddings=turned)
    torch.testing.assert_close(ours(x.flatten(0, 1), PLACE, MASK), expected.flatten(0, 1), **SINGLE)


def test_sandwich_is_the_layer_of_gemma():
    config = Gemma3TextConfig(
        **SIZES, head_dim=8, query_pre_attn_scalar=5, rms_norm_eps=0.01, attn_implementation="sdpa",
        layer_types=["full_attention"], num_hidden_layers=1,
    )  # fmt: skip
    theirs = randomised(gemma.Gemma3DecoderLayer(config, 0)).eval()
    ours = Sandwich(
        norm=Spec(RMSNorm, width=24, eps=0.01, offset=1.0),
        attention=SelfAttention(
            width=24,
            heads=4,
            groups=2,
            head_width=8,
            biases="",
            scale=5**-0.5,
            rotary=Rotary(turned=8, base=1_000_000.0),
            norm_query=RMSNorm(width=8, eps=0.01, offset=1.0),
            norm_key=RMSNorm(width=8, eps=0.01, offset=1.0),
        ),
        feed_forward=GatedMLP(width=24, hidden=20, activation="gelu_pytorch_tanh"),
    ).double()
    norms = {
        "attention.norm_query": "self_attn.q_norm",
        "attention.norm_key": "self_attn.k_norm",
        "norm_attention": "input_layernorm",
        "norm_attended": "post_attention_layernorm",
        "norm_feed_forward": "pre_feedforward_layernorm",
        "norm_fed": "post_feedforward_layernorm",
    }
    take_over(ours, theirs, norms)
    x = torch.randn(3, 5, 24, dtype=torch.float64)
    turned = gemma.Gemma3RotaryEmbedding(config)(x, torch.arange(5)[None], "full_attention")
    expected = theirs(x, position_embeddings=turned)
    torch.testing.assert_close(ours(x.flatten(0, 1), PLACE, MASK), expected.flatten(0, 1), **SINGLE)


def test_every_parameter_of_a_layer_without_rows_is_reached():
    for placement in (PreNorm, PostNorm, Sandwich, Parallel):
        part = made(placement, branch=Spec(LayerScale, width=WIDTH))
        part(rows(0), dense(0, 5), everything()).sum().backward()
        assert all(parameter.grad is not None for parameter in part.parameters())
