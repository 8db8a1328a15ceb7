"""Gemma 2: norms on both sides of each layer, every other layer looks only at what is near, and products of attention
and logits are bent into a range.

Gemma team 2024, "Gemma 2: Improving Open Language Models at a Practical Size", arXiv:2408.00118.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..weights.card import Card
from ..weights.config import Config
from ._gemma import between, between_fields, between_keys, gemma_model, gemma_trunk
from ._layers import layer_types, layers, sliding_fields, windowed
from ._parts import Part
from ._rope import FULL, SLIDING
from ._trunks import alone, fresh

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 4, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 64,
             "vocab_size": 2048},
    "2b": {},
    "9b": {"hidden_size": 3584, "intermediate_size": 14_336, "num_hidden_layers": 42, "num_attention_heads": 16,
           "num_key_value_heads": 8},
}  # fmt: skip
#: What a config may leave out.
USUAL = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 256_000,
    "final_logit_softcapping": 30.0,
}


def gemma2(size: str = "2b") -> Spec:
    """The System with fresh weights."""
    return fresh("gemma2", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    config.assume(USUAL)
    trunk = between(config, gemma_trunk(config))
    softcap = config.take("attn_logit_softcapping", float | None, 50.0, least=1e-6)
    window = config.take("sliding_window", int | None, 4096, least=1)
    config.ignore("sliding_window")
    usual = [FULL if index % 2 else SLIDING for index in range(trunk.depth)]
    kinds = layer_types(config, usual, window)
    return gemma_model(config, windowed(trunk.set("block.attention.softcap", softcap), kinds, window))


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    softcap = layers(decoder.trunk)[0].attention.softcap
    own = {"model_type": "gemma2", "attn_logit_softcapping": softcap}
    return between_fields(decoder) | sliding_fields(decoder.trunk) | own


TRUNK = Part(("gemma2",), decoder, fields, between_keys, "Gemma2ForCausalLM")
FAMILY = alone(
    "gemma2",
    TRUNK,
    Card(
        title="Gemma 2",
        paper="Gemma team 2024, arXiv:2408.00118",
        licence="terms of Google",
        preparation="byte-pair tokens; messages by the checkpoint's own template",
        examples=("google/gemma-2-2b-it",),
    ),
)
