"""Qwen3: the parts of LLaMA, with queries and keys that are normalised in each head.

Yang et al. 2025, "Qwen3 Technical Report", arXiv:2505.09388.
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
             "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 2048, "tie_word_embeddings": True},
    "0.6b": {"hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 16,
             "num_key_value_heads": 8, "rope_theta": 1_000_000.0, "tie_word_embeddings": True},
    "8b": {"intermediate_size": 12_288, "num_hidden_layers": 36, "num_key_value_heads": 8,
           "rope_theta": 1_000_000.0},
}  # fmt: skip
#: What a config may leave out.
USUAL = {"intermediate_size": 22_016, "head_dim": 128, "vocab_size": 151_936}


def qwen3(size: str = "0.6b") -> Spec:
    """The System with fresh weights."""
    return fresh("qwen3", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    config.assume(USUAL)
    biased = config.take("attention_bias", bool, False)
    trunk = gated(config, biases="qkvo" if biased else "", head_norm=True)
    size = window(config)
    trunk = windowed(trunk, layer_types(config, upper(config, size, trunk.depth), size), size)
    return language_model(config, trunk, layers(trunk)[0].norm, tied=False)


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    biased = bool(layers(decoder.trunk)[0].attention.biases)
    own = {"model_type": "qwen3", "attention_bias": biased}
    return gated_fields(decoder) | window_fields(decoder.trunk) | own


TRUNK = Part(("qwen3",), decoder, fields, gated_keys, "Qwen3ForCausalLM")
FAMILY = alone(
    "qwen3",
    TRUNK,
    Card(
        title="Qwen3",
        paper="Yang et al. 2025, arXiv:2505.09388",
        licence="Apache-2.0",
        preparation="byte-pair tokens; messages by the checkpoint's own template",
        examples=("Qwen/Qwen3-0.6B", "Qwen/Qwen3-8B"),
    ),
)
