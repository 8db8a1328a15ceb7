"""Mistral: the parts of LLaMA, of which each token looks no further than a window.

Jiang et al. 2023, "Mistral 7B", arXiv:2310.06825. Later releases look at everything.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..weights.card import Card
from ..weights.config import Config
from ._parts import Part
from ._trunks import alone, fresh, gated, gated_fields, gated_keys, language_model

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": 2048, "sliding_window": 256, "tie_word_embeddings": True},
    "7b": {"rms_norm_eps": 1e-5, "sliding_window": None, "vocab_size": 32_768, "rope_theta": 1_000_000.0},
}  # fmt: skip
#: What a config may leave out.
USUAL = {"intermediate_size": 14_336, "num_key_value_heads": 8}


def mistral(size: str = "7b") -> Spec:
    """The System with fresh weights."""
    return fresh("mistral", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    config.assume(USUAL)
    trunk = gated(config)
    window = config.take("sliding_window", int | None, 4096, least=1)
    trunk = trunk.set("block.attention.window", window)
    return language_model(config, trunk, trunk.block.norm, tied=False)


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    window = decoder.trunk.block.attention.window
    return gated_fields(decoder) | {"model_type": "mistral", "sliding_window": window}


TRUNK = Part(("mistral",), decoder, fields, gated_keys, "MistralForCausalLM")
FAMILY = alone(
    "mistral",
    TRUNK,
    Card(
        title="Mistral",
        paper="Jiang et al. 2023, arXiv:2310.06825",
        licence="Apache 2.0",
        preparation="byte-pair tokens; messages by the checkpoint's own template",
        examples=("mistralai/Mistral-7B-Instruct-v0.2", "mistralai/Mistral-7B-v0.1"),
    ),
)
