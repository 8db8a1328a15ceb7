"""The language model of Gemma 3, alone: norms on both sides of each layer and of each head's queries and keys; of six
layers five look only at what is near, and turn by a base of their own.

Gemma team 2025, "Gemma 3 Technical Report", arXiv:2503.19786.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..weights.card import Card
from ..weights.config import Config
from ._gemma import between, between_fields, between_keys, gemma_model, gemma_trunk
from ._layers import in_turn, layer_types, layers, sliding_fields, types_of
from ._parts import Part
from ._rope import FULL, SLIDING, rotaries, rotaries_fields
from ._trunks import alone, fresh

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 6, "num_attention_heads": 4,
             "num_key_value_heads": 1, "head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 64,
             "vocab_size": 2048},
    "270m": {"hidden_size": 640, "intermediate_size": 2048, "num_hidden_layers": 18, "num_attention_heads": 4,
             "num_key_value_heads": 1, "sliding_window": 512, "vocab_size": 262_144},
    "1b": {"hidden_size": 1152, "intermediate_size": 6912, "num_attention_heads": 4, "num_key_value_heads": 1,
           "sliding_window": 512, "vocab_size": 262_144},
}  # fmt: skip
#: What a config may leave out, as that of the multimodal model does.
USUAL = {
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 262_208,
}


def gemma3_text(size: str = "270m") -> Spec:
    """The System with fresh weights."""
    return fresh("gemma3_text", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    config.assume(USUAL)
    config.expect("attn_logit_softcapping", None)
    trunk = between(config, gemma_trunk(config, head_norm=True, turned=lambda *heads: _turned(*heads)[FULL]))
    turned = _turned(config, trunk.block.attention.head_width)
    window = config.take("sliding_window", int | None, 4096, least=1)
    every = config.take("sliding_window_pattern", int, 6, least=1)
    config.ignore("sliding_window", "sliding_window_pattern", "_sliding_window_pattern")
    usual = [SLIDING if (index + 1) % every else FULL for index in range(trunk.depth)]

    def block(kind: str) -> Spec:
        one: Spec = trunk.block.set("attention.rotary", turned[kind])
        return one.set("attention.window", window) if kind == SLIDING else one

    return gemma_model(config, trunk.replace(block=in_turn(layer_types(config, usual, window), block)))


def _turned(config: Config, head_width: int) -> dict[str, Spec]:
    return rotaries(config, head_width, full=1_000_000.0, sliding=10_000.0)


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    kinds = types_of(decoder.trunk)
    turned = {kind: block.attention.rotary for kind, block in zip(kinds, layers(decoder.trunk), strict=True)}
    own = {"model_type": "gemma3_text", "attn_logit_softcapping": None}
    return between_fields(decoder) | rotaries_fields(turned) | sliding_fields(decoder.trunk) | own


TRUNK = Part(("gemma3_text",), decoder, fields, between_keys, "Gemma3ForCausalLM")
FAMILY = alone(
    "gemma3_text",
    TRUNK,
    Card(
        title="Gemma 3, the language model",
        paper="Gemma team 2025, arXiv:2503.19786",
        licence="terms of Google",
        preparation="byte-pair tokens; messages by the checkpoint's own template",
        examples=("google/gemma-3-270m-it", "google/gemma-3-1b-it"),
    ),
)
