"""Gemma, Gemma 2 and the language model of Gemma 3 against transformers: logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.language import VOCABULARY, language_parity
from recipes.parity import INITIALISATIONS
from recipes.trunks import left_out, refused
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
)

from sensorium.core import ConfigError
from sensorium.recipes import gemma, gemma2, gemma3_text

FULL, SLIDING = "full_attention", "sliding_attention"


def sizes(**changes: Any) -> dict[str, Any]:
    """Tiny ones with grouped heads that are wider than they must be; the root of the width is no whole number."""
    return {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 12, "vocab_size": VOCABULARY} | changes  # fmt: skip


GEMMA3 = (Gemma3ForCausalLM, Gemma3TextConfig)
VARIANTS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "gemma": (GemmaForCausalLM, GemmaConfig, {}),
    "gemma of one group": (GemmaForCausalLM, GemmaConfig, {
        "num_key_value_heads": 1, "attention_bias": True, "tie_word_embeddings": False}),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config, {
        "sliding_window": 5, "attn_logit_softcapping": 0.5, "final_logit_softcapping": 5.0,
        "query_pre_attn_scalar": 7}),
    "gemma2 without caps": (Gemma2ForCausalLM, Gemma2Config, {
        "layer_types": [FULL] * 3, "attn_logit_softcapping": None, "final_logit_softcapping": None}),
    "gemma3": (*GEMMA3, {"sliding_window": 5, "num_hidden_layers": 7, "query_pre_attn_scalar": 24}),
    "gemma3 in turn": (*GEMMA3, {
        "sliding_window": 5, "layer_types": [FULL, SLIDING, FULL], "final_logit_softcapping": 5.0,
        "rope_parameters": {
            FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
            SLIDING: {"rope_type": "default", "rope_theta": 100.0}}}),
    "gemma3, both scaled": (*GEMMA3, {
        "sliding_window": 5, "layer_types": [FULL, SLIDING, SLIDING], "attention_bias": True,
        "rope_parameters": {
            FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
            SLIDING: {"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0}}}),
    "gemma3, all slide": (*GEMMA3, {"sliding_window": 5}),
}  # fmt: skip


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity(initialisation: str, variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cls, made, changes = VARIANTS[variant]
    # Only that of Gemma 2 takes this way, which rounds, and makes NaN of padding that sees nothing.
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim, dtype=None: x.softmax(dim))
    language_parity(cls, made(**sizes(**changes)), initialisation, tmp_path)


@pytest.mark.parametrize(
    ("part", "made"),
    [(gemma.TRUNK, GemmaConfig), (gemma2.TRUNK, Gemma2Config), (gemma3_text.TRUNK, Gemma3TextConfig)],
)
def test_what_a_config_leaves_out(part: Any, made: Any):
    left_out(part, made)


@pytest.mark.parametrize("recipe", [gemma.gemma, gemma2.gemma2, gemma3_text.gemma3_text])
def test_fresh(recipe: Any):
    assert recipe("tiny").model.build().decoder.vocabulary == 2048


@pytest.mark.parametrize(
    ("made", "field", "value"),
    [
        (GemmaConfig, "use_bidirectional_attention", True),
        (Gemma2Config, "use_bidirectional_attention", True),
        (Gemma3TextConfig, "use_bidirectional_attention", True),
        (Gemma3TextConfig, "attn_logit_softcapping", 50.0),
    ],
)
def test_what_is_not_built_is_refused(made: Any, field: str, value: Any, tmp_path: Path):
    refused(made(**sizes()), tmp_path, f"config.json: {field}: only .* found {value}", **{field: value})


def test_two_activations_are_refused(tmp_path: Path):
    refused(
        GemmaConfig(**sizes()),
        tmp_path,
        "hidden_activation: contradictory",
        ConfigError,
        hidden_activation="relu",
    )
