"""Flamingo in the layout of IDEFICS against transformers: words that look at pictures, logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from recipes.language import checked, real, same_logits, sequences, unscaled
from recipes.parity import INITIALISATIONS, settings
from recipes.pictured import written_alike
from torch import Tensor
from transformers import IdeficsConfig, IdeficsForVisionText2Text
from transformers.models.idefics.processing_idefics import image_attention_mask_for_packed_input_ids_pt

from sensorium.core.batch import Batch

WORDS, END = 99, 2
PLACE = WORDS + 1  # the second of the added tokens


def config(**changes) -> IdeficsConfig:
    """A tiny one, which looks before every other block."""
    vision = {"embed_dim": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    resampler = {"use_resampler": True, "resampler_n_latents": 3, "resampler_depth": 2, "resampler_n_heads": 2,
                 "resampler_head_dim": 10, "qk_layer_norms_perceiver": True}  # fmt: skip
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
             "vocab_size": WORDS, "additional_vocab_size": 2, "cross_layer_interval": 2, "qk_layer_norms": True,
             "use_resampler": True, "vision_config": vision, "perceiver_config": resampler}  # fmt: skip
    return IdeficsConfig(**sizes | changes)


def batch(place: int = PLACE) -> Batch:
    """Two pictures and the end of a document in the first sequence, one picture in the second, none in the third."""
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(3, 32, 32, 3, generator=generator, dtype=torch.float64)
    ids = torch.randint(3, 97, (3, 12), generator=generator)
    ids[0, 2] = ids[0, 7] = ids[1, 1] = place
    ids[0, 5] = END
    return sequences(ids, [12, 8, 5], first=2, image=(pixels, [32] * 3, [0, 0, 1]))


def media(given: Batch, place: int = PLACE) -> dict[str, Tensor]:
    """Pictures as the reference takes them, and which word sees which, by its own rule."""
    words, image = given.streams["text"], given.streams["image"]
    most = max([1, *(int((image.owner == row).sum()) for row in range(len(given)))])
    pixels = torch.zeros(len(given), most, 3, 32, 32, dtype=torch.float64)
    for row in range(len(given)):
        mine = image.values[image.owner == row].movedim(-1, 1)
        pixels[row, : len(mine)] = mine
    rule = SimpleNamespace(convert_tokens_to_ids=lambda _: place, eos_token_id=END)
    seen, _ = image_attention_mask_for_packed_input_ids_pt(words.values, rule)
    return {"pixel_values": pixels, "image_attention_mask": (seen[..., None] == torch.arange(most)).long()}


VARIANTS = {
    "usual": {},
    "before each": {"cross_layer_interval": 1, "qk_layer_norms": False, "alpha_type": "vector"},
    "open": {"alpha_initializer": "ones", "perceiver_config": {"resampler_n_latents": 2, "resampler_depth": 1,
             "resampler_n_heads": 3, "resampler_head_dim": 8}},
    "all patches": {"use_resampler": False, "alpha_initializer": "normal", "alphas_initializer_range": 0.5},
    "one table": {"tie_word_embeddings": True, "alpha_initializer": "ones"},
    "no more words": {"additional_vocab_size": 0, "alpha_initializer": "ones", "vocab_size": WORDS + 2},
    "turning slowly": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
}  # fmt: skip


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    theirs, _, ours, again = checked(
        IdeficsForVisionText2Text, config(**VARIANTS[variant]), initialisation, tmp_path
    )
    unscaled(ours, "image")
    if variant == "no more words":
        ours.placeholders["image"] = PLACE
    given = batch()
    words = given.streams["text"]
    for model in (theirs, again):
        mask = real(words.values, words.lengths.tolist())
        same_logits(given, ours, model(words.values, attention_mask=mask, **media(given)).logits)
    found, expected = settings(again.config), settings(theirs.config)
    assert found == expected


def test_writing(tmp_path: Path):
    """64 tokens."""
    theirs, _, ours, _ = checked(IdeficsForVisionText2Text, config(), "random", tmp_path)
    unscaled(ours, "image")
    written_alike(theirs, ours, batch(), media, 64)
