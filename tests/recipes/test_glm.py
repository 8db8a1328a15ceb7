"""GLM-4, of both years, against transformers: logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recipes.language import VOCABULARY, language_parity
from recipes.parity import INITIALISATIONS
from recipes.trunks import left_out, refused
from transformers import Glm4Config, Glm4ForCausalLM, GlmConfig, GlmForCausalLM

from sensorium.recipes import glm, glm4

YEARS = pytest.mark.parametrize(
    ("cls", "made", "part"),
    [(GlmForCausalLM, GlmConfig, glm.TRUNK), (Glm4ForCausalLM, Glm4Config, glm4.TRUNK)],
    ids=["glm", "glm4"],
)


def sizes(**changes: Any) -> dict[str, Any]:
    """Tiny ones with grouped heads that are wider than they must be."""
    return {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 12, "vocab_size": VOCABULARY, "pad_token_id": 0,
            "eos_token_id": [1]} | changes  # fmt: skip


VARIANTS = {
    "plain": {},
    "tied, without biases": {"tie_word_embeddings": True, "attention_bias": False, "rms_norm_eps": 1e-3},
    "slowly, a third": {"rope_parameters": {"rope_theta": 5e5, "partial_rotary_factor": 1 / 3}},
    "whole heads": {"rope_parameters": {"rope_theta": 1e4, "partial_rotary_factor": 1.0}},
}


@YEARS
@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity(cls: Any, made: Any, part: Any, initialisation: str, variant: str, tmp_path: Path):
    language_parity(cls, made(**sizes(**VARIANTS[variant])), initialisation, tmp_path)


@YEARS
def test_what_a_config_leaves_out(cls: Any, made: Any, part: Any):
    left_out(part, made)


@YEARS
def test_what_is_not_built_is_refused(cls: Any, made: Any, part: Any, tmp_path: Path):
    scaling = {"rope_type": "spiral", "rope_theta": 1e4, "partial_rotary_factor": 0.5}
    refused(
        made(**sizes()),
        tmp_path,
        r"rope_parameters.rope_type: only .* found 'spiral'",
        rope_parameters=scaling,
    )
