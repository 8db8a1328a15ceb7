"""LLaMA: the decoder-only language model with rotary positions, grouped queries and gated feed-forwards.

Touvron et al. 2023, "LLaMA: Open and Efficient Foundation Language Models", arXiv:2302.13971. Llama 2
(arXiv:2307.09288), Llama 3 (arXiv:2407.21783), Vicuna and SmolLM have the same parts.
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
             "num_key_value_heads": 2, "vocab_size": 2048, "tie_word_embeddings": True},
    "135m": {"hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
             "num_key_value_heads": 3, "vocab_size": 49_152, "rope_theta": 100_000.0, "rms_norm_eps": 1e-5,
             "tie_word_embeddings": True},
    "7b": {},
}  # fmt: skip


def llama(size: str = "135m") -> Spec:
    """The System with fresh weights."""
    return fresh("llama", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    biased = config.take("attention_bias", bool, False)
    trunk = gated(config, biases="qkvo" if biased else "", mlp_bias=config.take("mlp_bias", bool, False))
    config.expect("pretraining_tp", 1)
    config.expect("rope_interleaved", False)
    config.ignore("is_llama_config")
    return language_model(config, trunk, trunk.block.norm, tied=False)


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    block = decoder.trunk.block
    return gated_fields(decoder) | {
        "model_type": "llama",
        "attention_bias": bool(block.attention.biases),
        "mlp_bias": block.feed_forward.bias,
    }


TRUNK = Part(("llama",), decoder, fields, gated_keys, "LlamaForCausalLM")
FAMILY = alone(
    "llama",
    TRUNK,
    Card(
        title="LLaMA",
        paper="Touvron et al. 2023, arXiv:2302.13971",
        licence="terms of Meta; others by their files",
        preparation="byte-pair tokens; messages by the checkpoint's own template",
        examples=("HuggingFaceTB/SmolLM2-135M-Instruct", "meta-llama/Llama-3.2-1B-Instruct"),
    ),
)
