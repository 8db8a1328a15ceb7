"""Qwen2 with a mixture of experts: each token is sent to a few of many small feed-forwards, and to one that serves all.

Qwen team 2024, "Qwen1.5-MoE"; Yang et al. 2024, "Qwen2 Technical Report", arXiv:2407.10671.
"""

from __future__ import annotations

from typing import Any

from ..core.spec import Spec
from ..nn.layers.experts import Experts
from ..weights.card import Card
from ..weights.config import Config
from ._layers import layer_types, layers
from ._parts import Part
from ._qwen import expert_fields, expert_keys, mixed, window, window_fields
from ._rope import FULL, SLIDING
from ._trunks import alone, fresh, gated, language_model

#: The public config of each size.
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"hidden_size": 128, "intermediate_size": 384, "moe_intermediate_size": 96, "num_hidden_layers": 4,
             "shared_expert_intermediate_size": 192, "num_attention_heads": 4, "num_key_value_heads": 2,
             "num_experts": 8, "num_experts_per_tok": 2, "vocab_size": 2048},
    "a2.7b": {"rope_theta": 1_000_000.0},
}  # fmt: skip
#: What a config may leave out.
USUAL = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "moe_intermediate_size": 1408,
    "shared_expert_intermediate_size": 5632,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_experts": 60,
    "num_experts_per_tok": 4,
    "vocab_size": 151_936,
}


def qwen2_moe(size: str = "a2.7b") -> Spec:
    """The System with fresh weights."""
    return fresh("qwen2_moe", SIZES, size, TRUNK)


def decoder(config: Config) -> Spec:
    """The language model of a public config."""
    config.assume(USUAL)
    trunk = gated(config, biases="qkv" if config.take("qkv_bias", bool, True) else "")
    size = window(config)
    most = config.take("max_window_layers", int, 28, least=0)
    usual = [SLIDING if size and index < most and not index % 2 else FULL for index in range(trunk.depth)]
    shared = config.take("shared_expert_intermediate_size", int, least=1)
    trunk = mixed(config, trunk, layer_types(config, usual, size), size, shared)
    return language_model(config, trunk, layers(trunk)[0].norm, tied=False)


def fields(decoder: Spec) -> dict[str, Any]:
    """The fields of a config from which ``decoder`` makes this."""
    biased = bool(layers(decoder.trunk)[0].attention.biases)
    mixture = next(one for block in layers(decoder.trunk) if (one := block.feed_forward).cls is Experts)
    own = {
        "model_type": "qwen2_moe",
        "qkv_bias": biased,
        "shared_expert_intermediate_size": mixture.shared,
    }
    return expert_fields(decoder) | window_fields(decoder.trunk) | own


TRUNK = Part(("qwen2_moe",), decoder, fields, expert_keys, "Qwen2MoeForCausalLM")
FAMILY = alone(
    "qwen2_moe",
    TRUNK,
    Card(
        title="Qwen2 with experts",
        paper="Yang et al. 2024, arXiv:2407.10671",
        licence="terms of Qwen; see the file",
        preparation="byte-pair tokens; messages by the checkpoint's own template",
        examples=("Qwen/Qwen1.5-MoE-A2.7B-Chat",),
    ),
)
