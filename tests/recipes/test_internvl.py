"""InternVL against transformers: pictures in tiles among words, logits, loss, writing, and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image as Pillow
from recipes.language import checked, real, same_logits, sequences, stream
from recipes.parity import INITIALISATIONS, edited, reference, settings
from recipes.pictured import message, picture, read_alike, tokenizer, written_alike
from torch import Tensor
from transformers import (
    AutoImageProcessor,
    GotOcr2ImageProcessorPil,
    InternVLConfig,
    InternVLForConditionalGeneration,
)

from sensorium.core import CapabilityError, ConfigError
from sensorium.core.batch import Batch
from sensorium.data.collate import collate
from sensorium.public import open_network, read_public, save_public
from sensorium.recipes import internvl
from sensorium.speaking import conversation
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors

PLACE, ROWS = 98, 4
TEXTS = {
    "llama": {},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "qwen3_moe": {"head_dim": 16, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24},
}


def config(text: str = "qwen2", vocabulary: int = 99, place: int = PLACE, **changes) -> InternVLConfig:
    """A tiny one with 16 patches a tile, of which four rows become."""
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
              "image_size": [32, 32], "patch_size": [8, 8]} | changes.pop("vision", {})  # fmt: skip
    words = {"model_type": text, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": vocabulary} | TEXTS[text]  # fmt: skip
    fixed = {"image_seq_length": ROWS, "tie_word_embeddings": False}
    return InternVLConfig(vision_config=vision, text_config=words, image_token_id=place, **fixed | changes)


def batch(rows: int = ROWS) -> Batch:
    """Three tiles, a clip of two frames and one tile in the first sequence, one in the second, none in the third."""
    generator = torch.Generator().manual_seed(3)
    values = torch.randn(4, 3, 32, 32, 3, generator=generator, dtype=torch.float64)
    ids = torch.randint(3, 97, (3, 10 + 6 * rows), generator=generator)
    ids[0, 2 : 2 + 3 * rows] = ids[0, 4 + 3 * rows : 4 + 5 * rows] = PLACE
    ids[0, 5 + 5 * rows : 5 + 6 * rows] = ids[1, 1 : 1 + rows] = PLACE
    found = sequences(ids, [10 + 6 * rows, 5 + rows, 7], first=3 * rows)
    pieces, owners = torch.tensor([3, 2, 1, 1]), torch.tensor([0, 0, 0, 1])
    every = replace(stream(values, pieces, owners), order=torch.tensor([0, 1, 2, 0]))
    for name, chosen in (("image", [0, 2, 3]), ("video", [1])):
        found.streams[name] = every.select(torch.tensor(chosen))
    return found


def tiles(given: Batch) -> Tensor:
    """All tiles and frames, in the order of the media, as the reference takes them."""
    found = []
    for one in (given.streams["image"], given.streams["video"]):
        for row, count in enumerate(one.lengths.tolist()):
            found.append((int(one.owner[row]), int(one.order[row]), one.values[row, :count]))
    pieces = [values for _, _, values in sorted(found, key=lambda one: one[:2])]
    return torch.cat([torch.zeros(0, 32, 32, 3, dtype=torch.float64), *pieces]).movedim(-1, 1)


VARIANTS = {
    "llama": {"text": "llama"},
    "tied": {"text": "llama", "tie_word_embeddings": True},
    "qwen2": {"text": "qwen2"},
    "qwen3": {"text": "qwen3"},
    "qwen3, experts, as Intern-S1": {"text": "qwen3_moe"},
    "InternViT-6B": {"vision": {"use_qk_norm": True, "norm_type": "rms_norm", "attention_bias": True}},
    "an earlier layer": {"vision_feature_layer": -2, "projector_hidden_act": "relu"},
    "a quarter": {"downsample_ratio": 0.25, "image_seq_length": 1, "vision": {"use_mask_token": True}},
}


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    made = config(**VARIANTS[variant])
    theirs, _, ours, again = checked(InternVLForConditionalGeneration, made, initialisation, tmp_path)
    given = batch(made.image_seq_length)
    words = given.streams["text"]
    for model in (theirs, again):
        mask = real(words.values, words.lengths.tolist())
        same_logits(given, ours, model(words.values, pixel_values=tiles(given), attention_mask=mask).logits)
    assert settings(again.config.vision_config) == settings(theirs.config.vision_config)


def test_writing(tmp_path: Path):
    """64 tokens."""
    theirs, _, ours, _ = checked(InternVLForConditionalGeneration, config(), "random", tmp_path)

    def media(one: Batch) -> dict[str, Tensor]:
        return {"pixel_values": pixels} if len(pixels := tiles(one)) else {}

    written_alike(theirs, ours, batch(), media, 64)


class InternVLProcessor(transformers.InternVLProcessor):
    """The reference without clips, for which it needs torchvision."""

    def __init__(self, image_processor, tokenizer, chat_template=None, image_seq_length: int = 256) -> None:
        super().__init__(image_processor, tokenizer, None, image_seq_length, chat_template)
        self.video_processor = None

    def check_argument_for_proper_class(self, argument_name, argument) -> type | None:
        return super().check_argument_for_proper_class(argument_name, argument) if argument else None


@pytest.mark.parametrize("tiled", [True, False])
def test_a_conversation(tiled: bool, tmp_path: Path):
    words = tokenizer(
        "<|im_start|>",
        "<|im_end|>",
        start_image_token=internvl.BEFORE,
        end_image_token=internvl.AFTER,
        context_image_token=internvl.IMAGE,
        video_token="<video>",
    )
    prepares = GotOcr2ImageProcessorPil(size={"height": 32, "width": 32}, max_patches=4 if tiled else 1)
    processor = InternVLProcessor(prepares, words, internvl.TEMPLATE, ROWS)
    sizes = {"vocabulary": len(words), "place": words.convert_tokens_to_ids(internvl.IMAGE)}
    theirs = reference(InternVLForConditionalGeneration, config(**sizes), "random")
    messages = [
        message("system", "Be brief."),
        message("user", "Two pictures:\n\n", picture(50, 91), picture(20, 20, 1), "What is this?"),
        message("assistant", "Nothing."),
        message("user", picture(90, 40, 2), "\nAnd this?"),
    ]
    found, given, theirs_given = read_alike(theirs, processor, messages, tmp_path / "theirs")
    image = given.streams["image"]
    seen = found.network.towers["image"].tower.tower
    values = torch.cat([row[:count] for row, count in zip(image.values, image.lengths, strict=True)])
    expected = theirs_given["pixel_values"].double().movedim(1, -1)
    torch.testing.assert_close(seen.embedding.values(values), expected, atol=1e-6, rtol=0)
    assert image.lengths.tolist() == ([3, 1, 3] if tiled else [1, 1, 1])

    # clips, for which the reference needs torchvision: the text is its own, the frames are prepared as pictures
    frames = np.stack([np.asarray(picture(40, 60, seed)) for seed in range(3)])
    shown = {"type": "video", "video": frames}
    asked = {"role": "user", "content": [shown, *message("user", picture(32, 32), "What?")["content"]]}
    item = conversation([asked], found.modalities, found.modalities["text"])
    both = collate([item], found.modalities)
    assert both.streams["video"].lengths.tolist() == [3]
    clip = processor.replace_video_token({"pixel_values_videos": torch.zeros(1, 3, 3, 32, 32)}, 0)
    still = processor.replace_image_token({"num_patches": [1]}, 0)
    text = processor.apply_chat_template([asked], add_generation_prompt=True, tokenize=False)
    text = text.replace(internvl.IMAGE, still).replace("<video>", clip)
    ids = words(text, add_special_tokens=False).input_ids
    assert both.streams["text"].values.tolist() == [ids]
    whole = [*map(Pillow.fromarray, frames), picture(32, 32)]
    pixels = prepares(whole, crop_to_patches=False, return_tensors="pt").pixel_values.double()
    with torch.no_grad():
        expected = theirs(torch.tensor([ids]), pixel_values=pixels).logits[:, -1]
        torch.testing.assert_close(found.network.begin(both).logits, expected, atol=1e-5, rtol=0)
    (tmp_path / "ours").mkdir()
    save_public(tmp_path / "ours", found.spec, found.network, found.modalities, "transformers")
    assert json.loads((tmp_path / "ours" / "processor_config.json").read_text())["image_seq_length"] == ROWS
    again = AutoImageProcessor.from_pretrained(tmp_path / "ours", backend="pil")
    assert again.max_patches == (4 if tiled else 1)
    assert again.size == {"height": 32, "width": 32}


def without_a_word(folder: Path, **changes: bool) -> None:
    """The config says nothing of tying but what is given, of the whole and of its words."""
    fields = json.loads((folder / "config.json").read_text())
    fields.pop("tie_word_embeddings", None)
    fields["text_config"].pop("tie_word_embeddings", None)
    (folder / "config.json").write_text(json.dumps(fields | changes))


@pytest.mark.parametrize("tied", [True, False])
def test_where_a_config_says_nothing_the_files_tell_whether_there_is_a_head(tied: bool, tmp_path: Path):
    reference(InternVLForConditionalGeneration, config(tie_word_embeddings=tied), "random").save_pretrained(
        tmp_path
    )
    without_a_word(tmp_path)
    _, network = open_network(Folder(tmp_path))
    assert (network.decoder.head is None) == tied


def test_names_of_older_files(tmp_path: Path):
    """As transformers 5 holds them in memory, which is how some files have them."""
    theirs = reference(InternVLForConditionalGeneration, config(), "random")
    theirs.save_pretrained(tmp_path)
    names = iter(theirs.state_dict())
    write_tensors(tmp_path, {name: tensor.clone() for name, tensor in theirs.state_dict().items()})
    assert next(names).startswith("model.vision_tower.embeddings")
    _, ours = open_network(Folder(tmp_path), torch.float64)
    given = batch()
    words = given.streams["text"]
    mask = real(words.values, words.lengths.tolist())
    with torch.no_grad():
        expected = theirs(words.values, pixel_values=tiles(given), attention_mask=mask).logits
        same_logits(given, ours.eval(), expected)


@pytest.mark.parametrize(
    ("section", "field", "value", "error", "match"),
    [
        ("vision_config", "use_mean_pooling", False, CapabilityError, "use_mean_pooling: only True"),
        ("vision_config", "use_absolute_position_embeddings", False, CapabilityError, "only True"),
        ("vision_config", "norm_type", "batch_norm", ConfigError, "norm_type: expected one of"),
        ("", "vision_feature_select_strategy", "full", CapabilityError, "only 'default'"),
        ("", "downsample_ratio", 0.7, ConfigError, "one over a whole number, found 0.7"),
    ],
)
def test_refusals(section: str, field: str, value: object, error: type, match: str, tmp_path: Path):
    config().save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    changes = {section: fields[section] | {field: value}} if section else {field: value}
    edited(tmp_path, **changes)
    with pytest.raises(error, match=match):
        read_public(Folder(tmp_path))


def test_frames_are_prepared_as_tiles_are(tmp_path: Path):
    config().save_pretrained(tmp_path)
    frames = {"video_processor_type": "InternVLVideoProcessor", "size": {"height": 48, "width": 48}}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(frames))
    with pytest.raises(CapabilityError, match="only frames that are prepared as the tiles of pictures"):
        read_public(Folder(tmp_path))
