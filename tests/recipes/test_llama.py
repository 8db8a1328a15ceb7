"""LLaMA against transformers: logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recipes.language import VOCABULARY, checked, greedy, language_parity, same_logits, sequences, uneven
from recipes.language import alone as one
from recipes.parity import INITIALISATIONS, close
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
    "yarn": {
        "rope_parameters": {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 8,
            "beta_fast": 4,
            "truncate": False,
        }
    },
    "yarn of mscale": {
        "rope_parameters": {
            "rope_type": "yarn",
            "factor": 4.0,
            "mscale": 0.7,
            "mscale_all_dim": 1.3,
            "original_max_position_embeddings": 8,
        }
    },
    "llama3": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 5e5,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8,
        }
    },
    "longrope": {
        "max_position_embeddings": 64,
        "rope_parameters": {
            "rope_type": "longrope",
            "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5],
            "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 5.0],
            "original_max_position_embeddings": 64,
        },
    },
}


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    language_parity(LlamaForCausalLM, config(**VARIANTS[variant]), initialisation, tmp_path)


BY_LENGTH = {
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "longrope": {"rope_type": "longrope", "factor": 4.0, "original_max_position_embeddings": 8,
                 "short_factor": [1.0, 1.1, 1.2, 1.3, 1.4, 1.5], "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 5.0]},
}  # fmt: skip


@pytest.mark.parametrize("scaling", BY_LENGTH)
@torch.no_grad()
def test_what_depends_on_the_length(scaling: str, tmp_path: Path):
    """Sequences beyond and below the length at which frequencies change: each alone as the reference, whose answer in
    a batch depends on the longest, and in a batch as alone.
    """
    changes = {"max_position_embeddings": 8, "rope_parameters": BY_LENGTH[scaling]}
    theirs, _, ours, again = checked(LlamaForCausalLM, config(**changes), "random", tmp_path)
    ids, _ = uneven(rows=4, longest=20)
    for lengths in ([6, 10, 15, 20], [17, 18, 19, 20]):
        batch = sequences(ids, lengths)
        found = ours.begin(batch).logits
        for row, length in enumerate(lengths):
            for model in (theirs, again):
                model.model.rotary_emb = type(model.model.rotary_emb)(
                    model.config
                )  # it remembers the longest
                expected = model(ids[row : row + 1, :length]).logits
                close(found[row], expected[0, -1])
                same_logits(one(batch, row), ours, expected)
        written = greedy(ours, batch, 8)
        assert written == [greedy(ours, one(batch, row), 8)[0] for row in range(4)]
        together = ours(batch).language.logits.split([length - 1 for length in lengths])
        for row, logits in enumerate(together):
            close(logits, ours(one(batch, row)).language.logits)
