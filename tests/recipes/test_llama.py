"""LLaMA against transformers: logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipes.language import VOCABULARY, language_parity
from recipes.parity import INITIALISATIONS
from transformers import LlamaConfig, LlamaForCausalLM


def config(**changes) -> LlamaConfig:
    """A tiny one with grouped heads that are wider than they must be."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 12, "vocab_size": VOCABULARY}  # fmt: skip
    return LlamaConfig(**sizes | changes)


VARIANTS = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "biased": {"attention_bias": True, "mlp_bias": True},
    "turning slowly": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "linear": {"rope_parameters": {"rope_type": "linear", "factor": 4.0}},
    "yarn": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 8,
                                 "beta_fast": 4, "truncate": False}},
    "yarn of mscale": {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 1.3,
                                           "original_max_position_embeddings": 8}},
    "llama3": {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
                                   "high_freq_factor": 4.0, "original_max_position_embeddings": 8}},
    "longrope": {"max_position_embeddings": 64,
                 "rope_parameters": {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
                                     "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 5.0], "original_max_position_embeddings": 64}},
}


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    language_parity(LlamaForCausalLM, config(**VARIANTS[variant]), initialisation, tmp_path)
