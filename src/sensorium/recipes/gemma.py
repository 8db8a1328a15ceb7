"""Gemma: the parts of LLaMA with wide heads, gated feed-forwards of GELU, and words times the root of the width.

Gemma team 2024, "Gemma: Open Models Based on Gemini Research and Technology", arXiv:2403.08295.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..weights.card import Card
from ..weights.config import Config
from ._gemma import gemma_fields, gemma_model, gemma_trunk
from ._parts import Part
from ._trunks import alone, fresh, gated_keys

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4,
             "num_key_value_heads": 1, "head_dim": 32, "vocab_size": 2048},
    "2b": {"hidden_size": 2048, "intermediate_size": 16_384, "num_hidden_layers": 18, "num_attention_heads": 8,
           "num_key_value_heads": 1},
    "7b": {},
}  # fmt: skip
#: What a config may leave out.
USUAL = {
    "hidden_size": 3072,
    "intermediate_size": 24_576,
    "num_hidden_layers": 28,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "vocab_size": 256_000,
}


def gemma(size: str = "2b") -> Spec:
    """The System with fresh weights."""
    return fresh("gemma", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    config.assume(USUAL)
    trunk = gemma_trunk(config)
    used = trunk.block.feed_forward.activation
    # The first files say "gelu" and mean its approximation, which a later field names.
    if used == "gelu":
        used = "gelu_pytorch_tanh"
    if config.take("hidden_activation", str | None, None) not in (None, used):
        raise config.error("hidden_activation", f"contradictory: hidden_act is {used!r}")
    return gemma_model(config, trunk.set("block.feed_forward.activation", used))


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    used = decoder.trunk.block.feed_forward.activation
    return gemma_fields(decoder) | {"model_type": "gemma", "hidden_activation": used}


TRUNK = Part(("gemma",), decoder, fields, gated_keys, "GemmaForCausalLM")
FAMILY = alone(
    "gemma",
    TRUNK,
    Card(
        title="Gemma",
        paper="Gemma team 2024, arXiv:2403.08295",
        licence="terms of Google",
        preparation="byte-pair tokens; messages by the checkpoint's own template",
        examples=("google/gemma-2b-it",),
    ),
)
