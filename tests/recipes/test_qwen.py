"""Qwen2 and Qwen3, dense and with experts, against transformers: logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recipes.language import VOCABULARY, language_parity
from recipes.parity import INITIALISATIONS
from recipes.trunks import left_out, named_otherwise, refused
from safetensors.torch import load_file
from transformers import (
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2MoeConfig,
    Qwen2MoeForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from sensorium.core import CapabilityError, ConfigError
from sensorium.nn.layers.experts import Experts
from sensorium.recipes import qwen2, qwen2_moe, qwen3, qwen3_moe

FULL, SLIDING = "full_attention", "sliding_attention"
WINDOW = {"use_sliding_window": True, "sliding_window": 5}
FEW = {"moe_intermediate_size": 16, "num_experts": 4, "num_experts_per_tok": 2, "num_hidden_layers": 3}
SHARED = {"shared_expert_intermediate_size": 24}


def sizes(**changes: Any) -> dict[str, Any]:
    """Tiny ones with grouped heads."""
    return {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": VOCABULARY} | changes  # fmt: skip


VARIANTS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {}),
    "qwen2 tied": (Qwen2ForCausalLM, Qwen2Config, {"tie_word_embeddings": True, "rms_norm_eps": 1e-3}),
    "qwen2 upper layers slide": (Qwen2ForCausalLM, Qwen2Config, {**WINDOW, "max_window_layers": 3}),
    "qwen2 yarn": (Qwen2ForCausalLM, Qwen2Config, {"rope_parameters": {
        "rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 8}}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"head_dim": 12}),
    "qwen3 biased, slides in turn": (Qwen3ForCausalLM, Qwen3Config, {
        **WINDOW, "head_dim": 8, "attention_bias": True, "layer_types": [SLIDING, FULL] * 2}),
    "qwen3_moe": (Qwen3MoeForCausalLM, Qwen3MoeConfig, {**FEW, "head_dim": 12, "norm_topk_prob": True}),
    "qwen3_moe in part, slides": (Qwen3MoeForCausalLM, Qwen3MoeConfig, {
        **FEW, **WINDOW, "head_dim": 8, "decoder_sparse_step": 2, "attention_bias": True}),
    "qwen2_moe": (Qwen2MoeForCausalLM, Qwen2MoeConfig, {**FEW, **SHARED, "num_experts_per_tok": 3}),
    "qwen2_moe in part, slides": (Qwen2MoeForCausalLM, Qwen2MoeConfig, {
        **FEW, **SHARED, **WINDOW, "mlp_only_layers": [1], "max_window_layers": 2, "qkv_bias": False}),
}  # fmt: skip


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    cls, made, changes = VARIANTS[variant]
    language_parity(cls, made(**sizes(**changes)), initialisation, tmp_path)


@pytest.mark.parametrize(
    ("cls", "made"), [(Qwen3MoeForCausalLM, Qwen3MoeConfig), (Qwen2MoeForCausalLM, Qwen2MoeConfig)]
)
def test_experts_that_are_stacked(cls: Any, made: Any, tmp_path: Path):
    """As transformers 5 holds them in memory."""
    named_otherwise(cls, made(**sizes(**FEW)), lambda name: name, tmp_path)


def test_which_layers_have_experts(tmp_path: Path):
    config = Qwen3MoeConfig(**sizes(**FEW, decoder_sparse_step=2))
    ours = language_parity(Qwen3MoeForCausalLM, config, "default", tmp_path)
    found = [isinstance(block.feed_forward, Experts) for block in ours.decoder.trunk.blocks]
    assert found == [False, True, False]
    names = [name for name in load_file(tmp_path / "ours" / "model.safetensors") if "layers.1.mlp" in name]
    parts = ("gate_proj", "up_proj", "down_proj")
    each = [f"experts.{index}.{part}" for index in range(4) for part in parts]
    assert sorted(names) == sorted(f"model.layers.1.mlp.{name}.weight" for name in ["gate", *each])


@pytest.mark.parametrize(
    ("part", "made"),
    [
        (qwen2.TRUNK, Qwen2Config),
        (qwen3.TRUNK, Qwen3Config),
        (qwen2_moe.TRUNK, Qwen2MoeConfig),
        (qwen3_moe.TRUNK, Qwen3MoeConfig),
    ],
)
def test_what_a_config_leaves_out(part: Any, made: Any):
    left_out(part, made)


@pytest.mark.parametrize("recipe", [qwen2.qwen2, qwen3.qwen3, qwen2_moe.qwen2_moe, qwen3_moe.qwen3_moe])
def test_fresh(recipe: Any):
    assert recipe("tiny").model.build().decoder.vocabulary == 2048


@pytest.mark.parametrize(
    ("error", "match", "changes"),
    [
        (CapabilityError, "layer_types: only .* found 'chunked_attention'", {"layer_types": ["chunked_attention"] * 4}),
        (ConfigError, "layer_types: expected one for each of 4 layers, found 2", {"layer_types": [FULL] * 2}),
        (ConfigError, "layer_types: found 'sliding_attention', but", {"layer_types": [SLIDING] * 4}),
        (ConfigError, "sliding_window: expected at least 1 with use_sliding_window, found None",
         {"use_sliding_window": True, "sliding_window": None}),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(error: Any, match: str, changes: dict[str, Any], tmp_path: Path):
    refused(Qwen3Config(**sizes()), tmp_path, match, error, **changes)


def test_a_mixture_without_experts_is_refused(tmp_path: Path):
    config = Qwen3MoeConfig(**sizes(**FEW))
    refused(config, tmp_path, "decoder_sparse_step: none of 3 layers", ConfigError, decoder_sparse_step=5)
