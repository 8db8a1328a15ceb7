"""Command R and Command R7B against transformers: logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.language import VOCABULARY, language_parity
from recipes.parity import INITIALISATIONS, edited, reference
from recipes.trunks import left_out, refused, same_as
from torch import Tensor
from transformers import Cohere2Config, Cohere2ForCausalLM, CohereConfig, CohereForCausalLM
from transformers.models.cohere import modeling_cohere
from transformers.models.cohere2 import modeling_cohere2

from sensorium.core import ConfigError
from sensorium.nn.layers.blocks import Parallel
from sensorium.recipes import cohere, cohere2

SLIDING, FULL = "sliding_attention", "full_attention"


@pytest.fixture(autouse=True)
def _unrounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference without its rounding to single precision in norms and where heads are turned."""
    for module, norm in (
        (modeling_cohere, modeling_cohere.CohereLayerNorm),
        (modeling_cohere2, modeling_cohere2.Cohere2LayerNorm),
    ):
        monkeypatch.setattr(module, "apply_rotary_pos_emb", turned)
        monkeypatch.setattr(norm, "forward", normalised)


def normalised(norm: Any, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return norm.weight * centred * (centred.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()


def turned(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, **_: Any) -> tuple[Tensor, ...]:
    turn = torch.complex(cos[..., ::2], sin[..., ::2])[:, None]
    pairs = (torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) for x in (q, k))
    return tuple(torch.view_as_real(x * turn).flatten(-2) for x in pairs)


def sizes(**changes: Any) -> dict[str, Any]:
    """Tiny ones with grouped heads."""
    return {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "vocab_size": VOCABULARY, "bos_token_id": 1,
            "eos_token_id": 2} | changes  # fmt: skip


PALM = {"num_key_value_heads": 1, "logit_scale": 1.0}
VARIANTS = {
    "plain": {},
    "the shape of PaLM": PALM,
    "heads normalised": {"use_qk_norm": True, "layer_norm_eps": 1e-2},
    "free head, biases": {"tie_word_embeddings": False, "attention_bias": True, "logit_scale": 0.25},
    "turning slowly": {"rope_parameters": {"rope_type": "default", "rope_theta": 8e6}},
}
LAYERS = {
    "one in four": {"num_hidden_layers": 5, "sliding_window": 5},
    "listed": {"num_hidden_layers": 3, "sliding_window": 3, "layer_types": [FULL, SLIDING, SLIDING]},
    "all near": {"layer_types": [SLIDING] * 2, "sliding_window": 4, "attention_bias": True},
}


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    made = CohereConfig(**sizes(**VARIANTS[variant]))
    ours = language_parity(CohereForCausalLM, made, initialisation, tmp_path)
    assert all(isinstance(block, Parallel) for block in ours.decoder.trunk.blocks)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", LAYERS)
def test_parity_of_layers_of_two_kinds(initialisation: str, variant: str, tmp_path: Path):
    language_parity(Cohere2ForCausalLM, Cohere2Config(**sizes(**LAYERS[variant])), initialisation, tmp_path)


def test_a_config_of_the_first_files(tmp_path: Path):
    """It says how many layers take turns, not which is which."""
    theirs = reference(Cohere2ForCausalLM, Cohere2Config(**sizes(sliding_window=3)), "random")
    theirs.save_pretrained(tmp_path)
    original = cohere2.ORIGINAL | {"layer_switch": 4, "use_parallel_embedding": True, "head_dim": 8}
    edited(tmp_path, **original, sliding_window_pattern=4, cache_implementation="hybrid", layer_types=None)
    same_as(theirs, tmp_path)


def test_palm_shares_one_head_of_keys():
    attention = cohere.cohere("palm-8b").model.decoder.trunk.block.attention
    assert (attention.groups, attention.head_width, cohere.cohere("palm-8b").model.decoder.scale) == (
        1,
        256,
        1.0,
    )


@pytest.mark.parametrize(("field", "value"), [("rotary_pct", 0.5), ("use_parallel_block", False)])
def test_what_is_not_built_is_refused(field: str, value: Any, tmp_path: Path):
    refused(Cohere2Config(**sizes()), tmp_path, f"{field}: only .* found {value}", **{field: value})


def test_layers_must_be_known(tmp_path: Path):
    made = Cohere2Config(**sizes())
    refused(made, tmp_path, "expected at least one", ConfigError, layer_types=[FULL] * 2)
    refused(made, tmp_path, "one for each of 2 layers", ConfigError, layer_types=[SLIDING])


@pytest.mark.parametrize(("part", "made"), [(cohere.TRUNK, CohereConfig), (cohere2.TRUNK, Cohere2Config)])
def test_what_a_config_leaves_out(part: Any, made: Any):
    left_out(part, made)
