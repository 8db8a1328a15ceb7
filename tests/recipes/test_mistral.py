"""Mistral against transformers: logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
from recipes.language import VOCABULARY, language_parity
from recipes.parity import INITIALISATIONS
from recipes.trunks import left_out, named_otherwise, refused
from transformers import MistralConfig, MistralForCausalLM

from sensorium.core import ConfigError
from sensorium.recipes import mistral


def config(**changes) -> MistralConfig:
    """A tiny one with a window shorter than the texts."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": VOCABULARY, "sliding_window": 5}  # fmt: skip
    return MistralConfig(**sizes | changes)


VARIANTS = {
    "a window": {},
    "no window": {"sliding_window": None, "head_dim": 12},
    "tied": {"tie_word_embeddings": True, "rms_norm_eps": 1e-3},
}


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    language_parity(MistralForCausalLM, config(**VARIANTS[variant]), initialisation, tmp_path)


def test_older_files(tmp_path: Path):
    """They hold the angles too."""
    named_otherwise(MistralForCausalLM, config(), lambda name: name, tmp_path)


def test_what_a_config_leaves_out():
    left_out(mistral.TRUNK, MistralConfig)


def test_refusals(tmp_path: Path):
    refused(config(), tmp_path, "sliding_window: expected at least 1, found 0", ConfigError, sliding_window=0)
    refused(config(), tmp_path, "layer_types: unknown field", ConfigError, layer_types=["full_attention"] * 2)
