"""GLM-4: LLaMA's parts with few heads of keys and values, and rotary positions that turn half of each head.

GLM team 2024, "ChatGLM: A Family of Large Language Models from GLM-130B to GLM-4 All Tools", arXiv:2406.12793. Files of
older ChatGLM models hold code of their own and another layout; they are not read.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from ..core.spec import Spec
from ..weights.card import Card
from ..weights.config import Config
from ..weights.keymap import AnyRule, layer
from ._parts import Part
from ._rope import rotary
from ._trunks import alone, fresh, gated, gated_fields, gated_keys, language_model

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
             "head_dim": 32, "vocab_size": 2048},
    "9b": {},
}  # fmt: skip
#: What a config may leave out.
USUAL = {
    "hidden_size": 4096,
    "intermediate_size": 13_696,
    "num_hidden_layers": 40,
    "num_attention_heads": 32,
    "num_key_value_heads": 2,
    "head_dim": 128,
    "rms_norm_eps": 1.5625e-07,
    "vocab_size": 151_552,
}
#: Half of each head turns, channels and their neighbours together.
turned = partial(rotary, share=0.5, neighbours=True)


def glm(size: str = "9b") -> Spec:
    """The System with fresh weights."""
    return fresh("glm", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    config.assume(USUAL)
    biased = config.take("attention_bias", bool, True)
    trunk = gated(config, biases="qkv" if biased else "", turned=turned)
    return language_model(config, trunk, trunk.block.norm, tied=False)


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    biased = bool(decoder.trunk.block.attention.biases)
    whole = {"partial_rotary_factor": 1.0}  # left out, it would be a half
    return whole | gated_fields(decoder) | {"model_type": "glm", "attention_bias": biased}


def keys(decoder: Spec) -> list[AnyRule]:
    """The names of a public checkpoint."""
    gate_up = layer("model.layers.{i}.mlp.gate_up_proj", "trunk.blocks.{i}.feed_forward.gate_up")
    return [*gate_up, *gated_keys(decoder)]


TRUNK = Part(("glm",), decoder, fields, keys, "GlmForCausalLM")
FAMILY = alone(
    "glm",
    TRUNK,
    Card(
        title="GLM-4",
        paper="GLM team 2024, arXiv:2406.12793",
        licence="terms of Zhipu AI",
        preparation="byte-pair tokens; messages by the checkpoint's own template",
        examples=("zai-org/glm-4-9b-chat-hf",),
    ),
)
