"""Qwen2: the parts of LLaMA, with biases of queries, keys and values.

Yang et al. 2024, "Qwen2 Technical Report", arXiv:2407.10671. Qwen2.5 (arXiv:2412.15115) has the same parts.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..weights.card import Card
from ..weights.config import Config
from ._layers import layer_types, layers, windowed
from ._parts import Part
from ._qwen import upper, window, window_fields
from ._trunks import alone, fresh, gated, gated_fields, gated_keys, language_model

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 2048, "tie_word_embeddings": True},
    "0.5b": {"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
             "num_key_value_heads": 2, "rope_theta": 1_000_000.0, "tie_word_embeddings": True},
    "7b": {"hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28, "num_attention_heads": 28,
           "num_key_value_heads": 4, "vocab_size": 152_064, "rope_theta": 1_000_000.0},
}  # fmt: skip
#: What a config may leave out.
USUAL = {"intermediate_size": 22_016, "vocab_size": 151_936}


def qwen2(size: str = "0.5b") -> Spec:
    """The System with fresh weights."""
    return fresh("qwen2", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    config.assume(USUAL)
    trunk = gated(config, biases="qkv")
    size = window(config)
    trunk = windowed(trunk, layer_types(config, upper(config, size, trunk.depth), size), size)
    return language_model(config, trunk, layers(trunk)[0].norm, tied=False)


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    return gated_fields(decoder) | window_fields(decoder.trunk) | {"model_type": "qwen2"}


TRUNK = Part(("qwen2",), decoder, fields, gated_keys, "Qwen2ForCausalLM")
FAMILY = alone(
    "qwen2",
    TRUNK,
    Card(
        title="Qwen2 and Qwen2.5",
        paper="Yang et al. 2024, arXiv:2407.10671",
        licence="Apache-2.0, or terms of Qwen; see the file",
        preparation="byte-pair tokens; messages by the checkpoint's own template",
        examples=("Qwen/Qwen2.5-0.5B-Instruct", "Qwen/Qwen2-7B-Instruct"),
    ),
)
