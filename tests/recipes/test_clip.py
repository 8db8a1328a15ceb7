"""CLIP against transformers: read, computed, written back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recipes.parity import INITIALISATIONS, close, opened, reference, written
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPModel

EOS = 98


def config(**changes) -> CLIPConfig:
    """A tiny one with uneven sizes."""
    vision = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 3,
              "image_size": 40, "patch_size": 10}  # fmt: skip
    text = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_position_embeddings": 16, "eos_token_id": EOS,
            "pad_token_id": 1}  # fmt: skip
    return CLIPConfig(
        vision_config=vision | changes.get("vision", {}),
        text_config=text | changes.get("text", {}),
        projection_dim=24,
    )


def texts() -> tuple[torch.Tensor, torch.Tensor]:
    """Ids of unequal lengths that end with the end token, padded to the context."""
    lengths = torch.tensor([5, 16, 2])
    ids = torch.randint(3, EOS, (3, 16), generator=torch.Generator().manual_seed(2))
    place = torch.arange(16)
    ids[place == lengths[:, None] - 1] = EOS
    return ids.masked_fill(place >= lengths[:, None], 1), lengths


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_parity(initialisation: str, act: str, tmp_path: Path):
    theirs = reference(
        CLIPModel, config(vision={"hidden_act": act}, text={"hidden_act": act}), initialisation
    )
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, CLIPModel, tmp_path / "ours")
    ids, lengths = texts()
    pixels = torch.randn(3, 3, 40, 40, dtype=torch.float64)
    wide = torch.randn(2, 3, 30, 70, dtype=torch.float64)
    with torch.no_grad():
        for model in (theirs, again):
            expected = model(input_ids=ids, pixel_values=pixels, return_loss=True)
            seen = ours.towers["image"](pixels.movedim(1, -1), torch.full((3,), 40))
            read = ours.towers["text"](ids[:, : int(lengths.max())], lengths)
            close(seen.rows.unflatten(0, (3, -1)), expected.vision_model_output.last_hidden_state)
            close(seen.pooled, model.vision_model(pixel_values=pixels).pooler_output)
            for row, length, features in zip(
                expected.text_model_output.last_hidden_state, lengths, read.segments(), strict=True
            ):
                close(features, row[:length])
            image = normalize(ours.projections["image"](seen.pooled), dim=-1)
            text = normalize(ours.projections["text"](read.pooled), dim=-1)
            close(image, expected.image_embeds)
            close(text, expected.text_embeds)
            close(ours.scale * image @ text.T, expected.logits_per_image)
            theirs_wide = model.vision_model(pixel_values=wide, interpolate_pos_encoding=True)
            close(
                ours.towers["image"](wide.movedim(1, -1), torch.full((2,), 30)).pooled,
                theirs_wide.pooler_output,
            )
