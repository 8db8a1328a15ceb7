"""Qwen3 with a mixture of experts: of many small feed-forwards, each token is sent to a few.

Yang et al. 2025, "Qwen3 Technical Report", arXiv:2505.09388.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..weights.card import Card
from ..weights.config import Config
from ._layers import layers
from ._parts import Part
from ._qwen import expert_fields, expert_keys, mixed, window, window_fields
from ._rope import FULL, SLIDING
from ._trunks import alone, fresh, gated, language_model

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 384, "moe_intermediate_size": 96, "num_hidden_layers": 4,
             "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "num_experts": 8,
             "num_experts_per_tok": 2, "norm_topk_prob": True, "vocab_size": 2048},
    "30b-a3b": {"num_hidden_layers": 48, "head_dim": 128, "norm_topk_prob": True, "rope_theta": 1_000_000.0},
}  # fmt: skip
#: What a config may leave out.
USUAL = {
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_hidden_layers": 24,
    "num_key_value_heads": 4,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "vocab_size": 151_936,
}


def qwen3_moe(size: str = "30b-a3b") -> Spec:
    """The System with fresh weights."""
    return fresh("qwen3_moe", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    config.assume(USUAL)
    biased = config.take("attention_bias", bool, False)
    trunk = gated(config, biases="qkvo" if biased else "", head_norm=True)
    size = window(config)
    trunk = mixed(config, trunk, [FULL if size is None else SLIDING] * trunk.depth, size)
    return language_model(config, trunk, layers(trunk)[0].norm, tied=False)


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    biased = bool(layers(decoder.trunk)[0].attention.biases)
    own = {"model_type": "qwen3_moe", "attention_bias": biased}
    return expert_fields(decoder) | window_fields(decoder.trunk) | own


TRUNK = Part(("qwen3_moe",), decoder, fields, expert_keys, "Qwen3MoeForCausalLM")
FAMILY = alone(
    "qwen3_moe",
    TRUNK,
    Card(
        title="Qwen3 with experts",
        paper="Yang et al. 2025, arXiv:2505.09388",
        licence="Apache-2.0",
        preparation="byte-pair tokens; messages by the checkpoint's own template",
        examples=("Qwen/Qwen3-30B-A3B",),
    ),
)
