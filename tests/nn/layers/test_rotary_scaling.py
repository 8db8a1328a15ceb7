"""Scaled rotary positions against those of transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, Phi3Config
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.llama import modeling_llama as llama
from transformers.models.phi3 import modeling_phi3 as phi3

from sensorium.core.errors import ConfigError
from sensorium.core.spec import Spec
from sensorium.nn.layers.rotary import Rotary
from sensorium.nn.layers.rotary_scaling import DynamicNTK, LinearScaling, Llama3, LongRope, Scaling, Yarn

SHORT, LONG = [1.0 + 0.01 * i for i in range(32)], [1.5**i for i in range(32)]


def config(base: float, longest: int, **rope: Any) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=256,
        num_attention_heads=4,
        max_position_embeddings=longest,
        rope_parameters={"rope_theta": base, **rope},
    )


CASES = [
    ({"rope_type": "linear", "factor": 2.5}, 10_000.0, 2048, LinearScaling(factor=2.5)),
    ({"rope_type": "dynamic", "factor": 4.0}, 10_000.0, 2048, DynamicNTK(factor=4.0, original=2048)),
    (
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 8192},
        500_000.0, 131_072, Llama3(factor=8.0, original=8192),
    ),
    (
        {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 2.0, "high_freq_factor": 3.0,
         "original_max_position_embeddings": 512},
        10_000.0, 16_384, Llama3(factor=32.0, original=512, low=2.0, high=3.0),
    ),
    (
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32_768},
        1_000_000.0, 131_072, Yarn(factor=4.0, original=32_768),
    ),
    (
        {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "beta_fast": 24,
         "beta_slow": 2, "truncate": False},
        150_000.0, 131_072, Yarn(factor=32.0, original=4096, fast=24, slow=2, truncate=False),
    ),
    (
        {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 0.707,
         "mscale_all_dim": 1.0},
        10_000.0, 163_840, Yarn(factor=40.0, original=4096, mscale=0.707, mscale_all_dim=1.0),
    ),
    (
        {"rope_type": "yarn", "factor": 2.0, "original_max_position_embeddings": 16, "attention_factor": 0.5},
        10_000.0, 32, Yarn(factor=2.0, original=16, attention=0.5),
    ),
    (
        {"rope_type": "longrope", "factor": 32.0, "original_max_position_embeddings": 4096,
         "short_factor": SHORT, "long_factor": LONG},
        10_000.0, 131_072, LongRope(short=SHORT, long=LONG, original=4096, factor=32.0),
    ),
    (
        {"rope_type": "longrope", "original_max_position_embeddings": 64, "attention_factor": 1.25,
         "short_factor": SHORT, "long_factor": LONG},
        10_000.0, 128, LongRope(short=SHORT, long=LONG, original=64, factor=2.0, attention=1.25),
    ),
]  # fmt: skip


@pytest.mark.parametrize("length", [10, 2048, 5000, 100_000])
@pytest.mark.parametrize(("rope", "base", "longest", "scaling"), CASES)
def test_frequencies_are_those_of_transformers(
    rope: dict[str, Any], base: float, longest: int, scaling: Scaling, length: int
):
    expected, factor = ROPE_INIT_FUNCTIONS[rope["rope_type"]](
        config(base, longest, **rope), "cpu", seq_len=length
    )
    found = scaling.frequencies(64, base, torch.tensor([length]))
    torch.testing.assert_close(found[0], expected, rtol=1e-6, atol=0)
    assert found.dtype == torch.float32
    assert scaling.attention_factor == pytest.approx(factor, rel=1e-12)


@pytest.mark.parametrize(("rope", "base", "longest", "scaling"), CASES)
def test_turned_as_in_transformers(rope: dict[str, Any], base: float, longest: int, scaling: Scaling):
    torch.manual_seed(0)
    q, k = torch.randn(1, 4, 5, 64, dtype=torch.float64), torch.randn(1, 2, 5, 64, dtype=torch.float64)
    module = llama if rope["rope_type"] != "longrope" else phi3
    kind = llama.LlamaRotaryEmbedding if module is llama else phi3.Phi3RotaryEmbedding
    given = config(base, longest, **rope)
    if module is phi3:
        given = Phi3Config(
            hidden_size=256, num_attention_heads=4, max_position_embeddings=longest, pad_token_id=0,
            rope_parameters={"rope_theta": base, "partial_rotary_factor": 1.0, **rope},
        )  # fmt: skip
    for places in (torch.arange(5)[None], torch.tensor([[0, 30, 1000, 4096, 9000]])):
        cos, sin = kind(given)(q, places)
        expected = module.apply_rotary_pos_emb(q, k, cos, sin)
        found = Rotary(turned=64, base=base, scaling=scaling)(q, k, places)
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_each_sequence_has_its_own_length():
    """What else is in a batch changes nothing."""
    torch.manual_seed(0)
    q, k = torch.randn(2, 1, 6, 64), torch.randn(2, 1, 6, 64)
    places = torch.stack([torch.arange(6), torch.arange(6) + 100])
    for scaling in (DynamicNTK(factor=2.0, original=50), LongRope(short=SHORT, long=LONG, original=50)):
        turn = Rotary(turned=64, scaling=scaling)
        together = turn(q, k, places)
        apart = [turn(q[i : i + 1], k[i : i + 1], places[i : i + 1]) for i in range(2)]
        for found, parts in zip(together, zip(*apart, strict=True), strict=True):
            torch.testing.assert_close(found, torch.cat(parts), atol=0, rtol=0)
        plain = Rotary(turned=64)(q, k, places)
        assert not torch.allclose(together[0][1], plain[0][1], atol=1e-2)
    torch.testing.assert_close(
        DynamicNTK(factor=2.0, original=50).frequencies(64, 1e4, torch.tensor([50]))[0],
        LinearScaling(factor=1.0).frequencies(64, 1e4, torch.tensor([50]))[0],
    )


def test_equal_rules_are_alike():
    a, b = (Rotary(turned=64, scaling=LongRope(short=SHORT, long=LONG, original=n)) for n in (64, 64))
    assert a.key == b.key
    assert hash(a.key) == hash(b.key)
    assert a.key != Rotary(turned=64, scaling=LongRope(short=SHORT, long=LONG, original=65)).key
    assert a.key != Rotary(turned=64).key


def test_rules_are_parts_of_a_spec():
    spec = Spec(Rotary, turned=64, scaling=Spec(LongRope, short=SHORT, long=LONG, original=64))
    assert Spec.from_json(spec.to_json()).build().key == spec.build().key


def test_nothing_to_turn():
    for scaling in (None, DynamicNTK(factor=2.0, original=50)):
        q, k = torch.randn(0, 1, 0, 8), torch.randn(0, 1, 0, 8)
        found, _ = Rotary(turned=8, scaling=scaling)(q, k, torch.zeros(1, 0, dtype=torch.long))
        assert found.shape == q.shape


@pytest.mark.parametrize(
    ("kind", "settings", "reason"),
    [
        (LinearScaling, {"factor": 0.5}, "LinearScaling.factor must be at least 1, found 0.5"),
        (LinearScaling, {"factor": float("nan")}, "found nan"),
        (DynamicNTK, {"factor": 2.0, "original": 0}, "DynamicNTK.original must be at least 2"),
        (
            Yarn,
            {"factor": 2.0, "original": 64, "fast": 1.0, "slow": 2.0},
            "0 < slow <= fast, found 2.0 and 1.0",
        ),
        (Yarn, {"factor": 2.0, "original": 64, "attention": 0.0}, "Yarn.attention must be above 0"),
        (Llama3, {"factor": 2.0, "original": 64, "low": 4.0, "high": 4.0}, "0 < low < high"),
        (
            LongRope,
            {"short": [0.0], "long": [1.0], "original": 64},
            "LongRope.short: expected numbers above 0",
        ),
    ],
)
def test_settings_that_cannot_be(kind: type[Scaling], settings: dict[str, Any], reason: str):
    with pytest.raises(ConfigError, match=reason):
        kind(**settings)


def test_rules_for_other_widths():
    with pytest.raises(
        ConfigError, match=r"LongRope\.short: expected a number for each of 8 pairs, found 32"
    ):
        Rotary(turned=16, scaling=LongRope(short=SHORT, long=LONG, original=64))
    with pytest.raises(ConfigError, match="at least 4 channels"):
        Rotary(turned=2, scaling=DynamicNTK(factor=2.0, original=64))
