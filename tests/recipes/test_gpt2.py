"""GPT-2 against transformers: logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.language import VOCABULARY, language_parity
from recipes.parity import INITIALISATIONS
from recipes.trunks import left_out, named_otherwise, refused
from transformers import GPT2Config, GPT2LMHeadModel

from sensorium.recipes.gpt2 import TRUNK


def config(**changes: Any) -> GPT2Config:
    """A tiny one, whose hidden layers are not four times as wide."""
    sizes = {"n_embd": 32, "n_inner": 48, "n_layer": 2, "n_head": 4, "n_positions": 40,
             "vocab_size": VOCABULARY}  # fmt: skip
    return GPT2Config(**sizes | {"bos_token_id": 0, "eos_token_id": 0} | changes)


VARIANTS = {
    "plain": {"n_inner": None},
    "free head": {"tie_word_embeddings": False, "resid_pdrop": 0.0},
    "products as they are": {"scale_attn_weights": False, "layer_norm_epsilon": 1e-3},
    "other activation": {"activation_function": "relu"},
}


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    ours = language_parity(GPT2LMHeadModel, config(**VARIANTS[variant]), initialisation, tmp_path)
    assert ours.decoder.context == 40


def test_names_without_prefix_and_masks_in_old_files(tmp_path: Path):
    """As the first public files have them."""
    masks = {"h.0.attn.bias": torch.ones(1, 1, 40, 40).tril(), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    named_otherwise(
        GPT2LMHeadModel, config(), lambda name: name.removeprefix("transformer."), tmp_path, more=masks
    )


def test_what_is_not_built_is_refused(tmp_path: Path):
    for name in ("scale_attn_by_inverse_layer_idx", "add_cross_attention"):
        refused(
            config(), tmp_path, f"config.json: {name}: only False is supported, found True", **{name: True}
        )


def test_what_a_config_leaves_out():
    left_out(TRUNK, GPT2Config)
