"""Qwen2-VL and Qwen2.5-VL against transformers: pictures and clips among words, logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.language import checked, real, same_logits, sequences, stream
from recipes.parity import INITIALISATIONS, edited, reference, respelled, settings
from recipes.pictured import message, picture, read_alike, tokenizer, written_alike
from torch import Tensor
from transformers import (
    AutoProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessorPil,
)
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl
from transformers.models.qwen2_vl import modeling_qwen2_vl

from sensorium.core import CapabilityError, ConfigError
from sensorium.core.batch import Batch
from sensorium.public import open_network, public_files, read_public, save_public
from sensorium.recipes import _qwen_vl, qwen2_5_vl
from sensorium.weights.family import Folder

STILL, MOVING = 98, 97
MODELS: dict[str, Any] = {
    "qwen2_5_vl": (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration),
    "qwen2_vl": (Qwen2VLConfig, Qwen2VLForConditionalGeneration),
}
MERGE, PATCH, FRAMES = 2, 4, 2


@pytest.fixture(autouse=True)
def _turned_without_rounding(monkeypatch: pytest.MonkeyPatch):
    """The towers of the reference turn in single precision, whatever they are in."""

    def turned(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
        def half(x: Tensor) -> Tensor:
            first, second = x.chunk(2, dim=-1)
            return torch.cat([-second, first], dim=-1)

        c, s = cos.unsqueeze(-2).double(), sin.unsqueeze(-2).double()
        return q * c + half(q) * s, k * c + half(k) * s

    for module in (modeling_qwen2_5_vl, modeling_qwen2_vl):
        monkeypatch.setattr(module, "apply_rotary_pos_emb_vision", turned)


def config(kind: str, vocabulary: int = 99, still: int = STILL, moving: int = MOVING, **changes: Any) -> Any:
    """A tiny one; windows are of 2 x 2 squares."""
    vision = {"depth": 3, "num_heads": 4, "patch_size": PATCH, "spatial_merge_size": MERGE,
              "temporal_patch_size": FRAMES, "in_channels": 3}  # fmt: skip
    if kind == "qwen2_vl":
        vision |= {"embed_dim": 32, "hidden_size": 64, "mlp_ratio": 2}
    else:
        vision |= {"hidden_size": 32, "intermediate_size": 44, "out_hidden_size": 64, "window_size": 16,
                   "fullatt_block_indexes": [1], "tokens_per_second": 2}  # fmt: skip
    words = {"hidden_size": 64, "intermediate_size": 72, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "vocab_size": vocabulary, "max_window_layers": 1, "pad_token_id": 0,
             "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}  # fmt: skip
    return MODELS[kind][0](
        vision_config=vision | changes.pop("vision", {}),
        text_config=words | changes.pop("words", {}),
        image_token_id=still,
        video_token_id=moving,
        **changes,
    )


SIZES = {"image": [(1, 4, 6), (1, 10, 6), (1, 2, 2)], "video": [(2, 4, 4), (3, 2, 6)]}
OWNERS = {"image": [0, 0, 1], "video": [0, 3]}
SECONDS = [1.5, 0.4]


def batch(timed: bool = False) -> Batch:
    """Two pictures and a clip in the first sequence, a picture in the second, words in the third, a clip in the last."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(3, 96, (4, 60), generator=generator)
    rows = {
        name: [t * r * c // MERGE**2 for t, r, c in sizes] for name, sizes in SIZES.items()
    }
    first, second, third = rows["image"]
    moving, last = rows["video"]
    ids[0, 2 : 2 + first] = ids[0, 12 : 12 + second] = ids[1, 1 : 1 + third] = STILL
    ids[0, 30 : 30 + moving] = ids[3, 4 : 4 + last] = MOVING
    found = sequences(ids, [45, 12, 9, 20], first=3)
    for name, sizes in SIZES.items():
        counts = torch.tensor([t * r * c for t, r, c in sizes])
        values = torch.randn(
            len(sizes), int(counts.max()), FRAMES * PATCH**2 * 3, generator=generator, dtype=torch.float64
        )
        layout = torch.tensor(sizes)
        if timed and name == "video":
            steps = torch.tensor([round(step * 1e9) for step in SECONDS])
            layout = torch.cat([layout, steps[:, None]], dim=1)
        found.streams[name] = stream(values, counts, torch.tensor(OWNERS[name]), layout=layout)
    return found


def media(given: Batch, timed: bool = False) -> dict[str, Any]:
    """Patches and grids as the reference takes them: channels first, without padding."""
    found: dict[str, Any] = {}
    for name, ending in (("image", ""), ("video", "_videos")):
        one = given.streams[name]
        if not len(one):
            continue
        patches = torch.cat([row[:count] for row, count in zip(one.values, one.lengths.tolist(), strict=True)])
        patches = patches.unflatten(1, (FRAMES, PATCH, PATCH, 3)).movedim(-1, 1).flatten(1)
        found |= {f"pixel_values{ending}": patches, f"{name}_grid_thw": one.layout[:, :3]}
        if timed and name == "video":
            found["second_per_grid_ts"] = (one.layout[:, 3] / 1e9).tolist()
    words = given.streams["text"].values
    kinds = (words == STILL).int() + 2 * (words == MOVING).int()
    return found | ({"mm_token_type_ids": kinds} if found else {})


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "sliding": {"words": {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}},
}


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_parity(kind: str, variant: str, initialisation: str, tmp_path: Path):
    theirs, _, ours, again = checked(MODELS[kind][1], config(kind, **VARIANTS[variant]), initialisation, tmp_path)
    timed = kind == "qwen2_5_vl"
    given = batch(timed)
    words = given.streams["text"]
    mask = real(words.values, words.lengths.tolist())
    for model in (theirs, again):
        same_logits(given, ours, model(words.values, attention_mask=mask, **media(given, timed)).logits)
    assert settings(again.config) == settings(theirs.config)
    assert (ours.decoder.head is None) == (variant == "tied")


@pytest.mark.parametrize("kind", MODELS)
def test_writing(kind: str, tmp_path: Path):
    theirs, _, ours, _ = checked(MODELS[kind][1], config(kind), "random", tmp_path)
    written_alike(theirs, ours, batch(), media, 32)
