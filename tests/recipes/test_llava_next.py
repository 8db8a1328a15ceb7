"""LLaVA-NeXT against transformers: pictures in tiles put together again, logits, loss, writing, and back."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from recipes.language import checked, real, same_logits, sequences, stream
from recipes.parity import INITIALISATIONS, edited, reference, settings
from recipes.pictured import message, picture, read_alike, tokenizer, written_alike
from torch import Tensor
from transformers import (
    AutoProcessor,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessorPil,
    LlavaNextProcessor,
)

from sensorium.core import CapabilityError, ConfigError
from sensorium.core.batch import Batch
from sensorium.modalities.chat.placeholders import UnpaddedTiles
from sensorium.modalities.tiles import AnyResolution
from sensorium.public import open_network, read_public, save_public
from sensorium.recipes import llava, llava_next
from sensorium.recipes._llava import IMAGE
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors

PLACE = 98
RESOLUTIONS = [[32, 64], [64, 32], [64, 64], [32, 96]]
CLIP = {"model_type": "clip_vision_model", "projection_dim": 16, "vocab_size": 77}
SIGLIP = {"model_type": "siglip_vision_model"}
#: Height and width of three pictures.
ORIGINALS = [(50, 91), (20, 20), (90, 13)]


def config(
    text: str = "llama", eye: dict = CLIP, vocabulary: int = 99, place: int = PLACE, **changes
) -> LlavaNextConfig:
    """A tiny one with 16 patches a tile."""
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
              "image_size": 32, "patch_size": 8} | eye  # fmt: skip
    words = {"model_type": text, "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": vocabulary}  # fmt: skip
    fixed = {"image_grid_pinpoints": RESOLUTIONS, "image_seq_length": 16}
    return LlavaNextConfig(
        vision_config=vision, text_config=words, image_token_index=place, **fixed | changes
    )


def places(size: tuple[int, int]) -> int:
    """How many rows a picture of this size becomes."""
    one = UnpaddedTiles(written=IMAGE, token=IMAGE, grid=[4, 4], side=32, resolutions=RESOLUTIONS)
    return len(one.expand(torch.zeros(1), size))


def batch() -> Batch:
    """Two pictures in the first sequence, one in the second, none in the third."""
    generator = torch.Generator().manual_seed(3)
    tiles = torch.randn(3, 5, 32, 32, 3, generator=generator, dtype=torch.float64)
    first, second, third = map(places, ORIGINALS)
    ids = torch.randint(3, 97, (3, 10 + first + second), generator=generator)
    ids[0, 2 : 2 + first] = ids[0, 4 + first : 4 + first + second] = ids[1, 1 : 1 + third] = PLACE
    found = sequences(ids, [10 + first + second, 5 + third, 7], first=third)
    cut = AnyResolution(side=32, resolutions=RESOLUTIONS)
    counts = torch.tensor([1 + math.prod(cut.resolution(*size)) // 32**2 for size in ORIGINALS])
    owners, layout = torch.tensor([0, 0, 1]), torch.tensor(ORIGINALS)
    found.streams["image"] = stream(tiles, counts, owners, layout=layout)
    return found


def media(given: Batch) -> dict[str, Tensor]:
    """All pictures as the reference takes them."""
    image = given.streams["image"]
    if not len(image):
        return {}
    return {"pixel_values": image.values.movedim(-1, 2), "image_sizes": image.layout}


VARIANTS = {
    "llama": {},
    "mistral": {"text": "mistral"},
    "siglip": {"eye": SIGLIP, "vision_feature_select_strategy": "full"},
    "two layers": {"vision_feature_layer": [-3, -1], "multimodal_projector_bias": False},
    "tied": {"tie_word_embeddings": True, "projector_hidden_act": "relu"},
}


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    made = config(**VARIANTS[variant])
    theirs, _, ours, again = checked(LlavaNextForConditionalGeneration, made, initialisation, tmp_path)
    given = batch()
    words = given.streams["text"]
    for model in (theirs, again):
        mask = real(words.values, words.lengths.tolist())
        same_logits(given, ours, model(words.values, attention_mask=mask, **media(given)).logits)
    assert settings(again.config.vision_config) == settings(theirs.config.vision_config)
    assert again.config.image_grid_pinpoints == RESOLUTIONS


def test_writing(tmp_path: Path):
    """64 tokens."""
    theirs, _, ours, _ = checked(LlavaNextForConditionalGeneration, config(), "random", tmp_path)
    written_alike(theirs, ours, batch(), media, 64)


@pytest.mark.parametrize(("text", "eye"), [("llama", CLIP), ("mistral", SIGLIP)])
def test_a_conversation(text: str, eye: dict, tmp_path: Path):
    words = tokenizer(IMAGE)
    strategy = "default" if eye is CLIP else "full"
    prepares = LlavaNextImageProcessorPil(
        size={"shortest_edge": 32},
        crop_size={"height": 32, "width": 32},
        image_grid_pinpoints=RESOLUTIONS,
    )
    template = llava_next.TEMPLATES.get(text, llava.TEMPLATE)
    processor = LlavaNextProcessor(
        prepares, words, 8, strategy, template, num_additional_image_tokens=int(eye is CLIP)
    )
    sizes = {"vocabulary": len(words), "place": words.convert_tokens_to_ids(IMAGE)}
    made = config(text, eye, **sizes, vision_feature_select_strategy=strategy)
    theirs = reference(LlavaNextForConditionalGeneration, made, "random")
    messages = [
        message("user", "Two pictures:\n\n", picture(50, 91), picture(20, 20, 1), "What is this?"),
        message("assistant", "Nothing."),
        message("user", picture(90, 13, 2), "\nAnd this?"),
    ]
    found, given, theirs_given = read_alike(theirs, processor, messages, tmp_path / "theirs")
    image = given.streams["image"]
    assert image.layout.tolist() == theirs_given["image_sizes"].tolist()
    pixels = found.network.towers["image"].tower.tower.embedding.values(image.values)
    for ours, expected, count in zip(pixels, theirs_given["pixel_values"], image.lengths, strict=True):
        torch.testing.assert_close(ours[:count], expected[:count].double().movedim(1, -1), atol=1e-6, rtol=0)
    (tmp_path / "ours").mkdir()
    save_public(tmp_path / "ours", found.spec, found.network, found.modalities, "transformers")
    again = AutoProcessor.from_pretrained(tmp_path / "ours", backend="pil")
    rendered = again.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    pictures = [part["image"] for one in messages for part in one["content"] if part["type"] == "image"]
    ids = again(text=rendered, images=pictures, add_special_tokens=False, return_tensors="pt").input_ids
    assert ids.tolist() == given.streams["text"].values.tolist()


@pytest.mark.parametrize(
    "shape", [(1, 1), (7, 500), (500, 7), (64, 96), (33, 65), (100, 101), (1, 1000), (31, 47)]
)
def test_places(shape: tuple[int, int]):
    """As many as the processor counts."""
    counts = LlavaNextProcessor.__new__(LlavaNextProcessor)
    counts.patch_size, counts.num_additional_image_tokens = 8, 0
    counts.image_processor = LlavaNextImageProcessorPil(image_grid_pinpoints=RESOLUTIONS)
    assert places(shape) == counts._get_number_of_features(*shape, 32, 32)


@torch.no_grad()
def test_names_of_transformers_5(tmp_path: Path):
    theirs = reference(LlavaNextForConditionalGeneration, config(), "random")
    theirs.save_pretrained(tmp_path)
    write_tensors(tmp_path, {name: tensor.clone() for name, tensor in theirs.state_dict().items()})
    assert "model.image_newline" in theirs.state_dict()
    _, ours = open_network(Folder(tmp_path), torch.float64)
    given = batch()
    words = given.streams["text"]
    mask = real(words.values, words.lengths.tolist())
    same_logits(given, ours.eval(), theirs(words.values, attention_mask=mask, **media(given)).logits)


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"vision_feature_select_strategy": "full"}, CapabilityError, "a class token has no place among"),
        ({"use_image_newline_parameter": False}, CapabilityError, "only True is supported"),
        ({"image_grid_pinpoints": [[64, 64]]}, ConfigError, "image_grid_pinpoints: contradictory"),
        (
            {"vision_config": {**SIGLIP, "image_size": 32, "patch_size": 8}},
            CapabilityError,
            "leaves out the first",
        ),
    ],
)
def test_refusals(fields: dict, error: type, match: str, tmp_path: Path):
    config().save_pretrained(tmp_path)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    pictures = {
        "image_processor_type": "LlavaNextImageProcessor",
        **sizes,
        "image_grid_pinpoints": RESOLUTIONS,
    }
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(pictures))
    read_public(Folder(tmp_path))
    edited(tmp_path, **fields)
    with pytest.raises(error, match=match):
        read_public(Folder(tmp_path))
