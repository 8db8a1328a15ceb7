"""OPT against transformers: logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.language import VOCABULARY, greedy, language_parity, sequences
from recipes.parity import INITIALISATIONS, opened, reference
from recipes.trunks import left_out, named_otherwise, refused
from transformers import OPTConfig, OPTForCausalLM

from sensorium.core import DataError
from sensorium.recipes.opt import TRUNK


def config(**changes: Any) -> OPTConfig:
    """A tiny one."""
    sizes = {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
             "max_position_embeddings": 40, "vocab_size": VOCABULARY}  # fmt: skip
    return OPTConfig(**sizes | changes)


VARIANTS = {
    "plain": {},
    "norms after, narrow table": {"do_layer_norm_before": False, "word_embed_proj_dim": 16},
    "free head": {"tie_word_embeddings": False, "word_embed_proj_dim": 24},
    "without biases": {"enable_bias": False, "activation_function": "gelu"},
    "without the last norm": {"_remove_final_layer_norm": True, "dropout": 0.0},
}


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    ours = language_parity(OPTForCausalLM, config(**VARIANTS[variant]), initialisation, tmp_path)
    assert ours.decoder.context == 40


def test_names_without_prefix(tmp_path: Path):
    named_otherwise(OPTForCausalLM, config(), lambda name: name.removeprefix("model."), tmp_path)


@pytest.mark.parametrize(("field", "value"), [("layer_norm_elementwise_affine", False), ("layerdrop", 0.5)])
def test_what_is_not_built_is_refused(field: str, value: Any, tmp_path: Path):
    refused(config(), tmp_path, f"config.json: {field}: only .* found {value}", **{field: value})


def test_what_a_config_leaves_out():
    left_out(TRUNK, OPTConfig)


@torch.no_grad()
def test_there_is_a_place_for_every_token_that_is_read(tmp_path: Path):
    spec, ours = opened(reference(OPTForCausalLM, config(), "random"), tmp_path)
    assert spec.modalities["text"].max_tokens == 40
    prompt = sequences(torch.full((1, 38), 5), [38])
    assert len(greedy(ours, prompt, 3)[0]) == 3
    with pytest.raises(DataError, match="40 places: a prompt of 38 tokens with 4 to be written does not fit"):
        greedy(ours, prompt, 4)
