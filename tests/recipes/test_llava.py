"""LLaVA against transformers: pictures among words, logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recipes.language import alone, checked, greedy, real, reread, same_logits, sequences, unscaled
from recipes.parity import INITIALISATIONS, close, edited, reference
from recipes.pictured import message, picture, read_alike, tokenizer
from transformers import (
    AutoProcessor,
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from sensorium.core import CapabilityError, DataError
from sensorium.core.batch import Batch
from sensorium.public import read_public, save_public
from sensorium.recipes import llava
from sensorium.recipes._llava import IMAGE
from sensorium.weights.family import Folder

PLACE = 98


def config(vision_config: dict | None = None, place: int = PLACE, words: int = 99, **changes) -> LlavaConfig:
    """A tiny one with 16 patches a picture."""
    vision = CLIPVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
                              image_size=32, patch_size=8, **(vision_config or {}))  # fmt: skip
    text = LlamaConfig(hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
                       num_key_value_heads=2, vocab_size=words)  # fmt: skip
    return LlavaConfig(vision_config=vision, text_config=text, image_token_index=place, **changes)


def batch(rows: int = 16) -> tuple[torch.Tensor, Batch]:
    """Two pictures in the first sequence, one in the second, none in the third."""
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(3, 32, 32, 3, generator=generator, dtype=torch.float64)
    ids = torch.randint(3, 97, (3, 10 + 2 * rows), generator=generator)
    ids[0, 2 : 2 + rows] = ids[0, 4 + rows : 4 + 2 * rows] = ids[1, 1 : 1 + rows] = PLACE
    lengths = [10 + 2 * rows, 5 + rows, 7]
    return pixels, sequences(ids, lengths, first=rows, image=(pixels, [32] * 3, [0, 0, 1]))


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"vision_feature_layer": [-3, -1], "vision_feature_select_strategy": "full"},
        {"multimodal_projector_bias": False, "projector_hidden_act": "relu", "vision_feature_layer": 1},
    ],
)
@torch.no_grad()
def test_parity(initialisation: str, changes: dict, tmp_path: Path):
    theirs, _, ours, again = checked(
        LlavaForConditionalGeneration, config(**changes), initialisation, tmp_path
    )
    unscaled(ours, "image")
    rows = 17 if changes.get("vision_feature_select_strategy") == "full" else 16
    pixels, given = batch(rows)
    words = given.streams["text"]
    for model in (theirs, again):
        expected = model(
            words.values,
            pixel_values=pixels.movedim(-1, 1),
            attention_mask=real(words.values, words.lengths.tolist()),
        )
        same_logits(given, ours, expected.logits)


@torch.no_grad()
def test_writing(tmp_path: Path):
    """64 tokens: as the reference, in one batch as one by one, with a cache as without."""
    theirs, _, ours, _ = checked(LlavaForConditionalGeneration, config(), "random", tmp_path)
    unscaled(ours, "image")
    pixels, given = batch()
    found = greedy(ours, given, 64)
    for row, length in enumerate(given.streams["text"].lengths.tolist()):
        one = alone(given, row)
        assert greedy(ours, one, 64) == [found[row]]
        seen = pixels[given.streams["image"].owner == row]
        expected = theirs.generate(
            one.streams["text"].values,
            **({"pixel_values": seen.movedim(-1, 1)} if len(seen) else {}),
            max_new_tokens=64,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert expected[0, length:].tolist() == found[row]
    assert reread(ours, given, 8) == [row[:8] for row in found]


@torch.no_grad()
def test_what_was_read_is_not_read_again(tmp_path: Path):
    """A prompt that goes on from an earlier one with its answer gives the same logits."""
    _, _, ours, _ = checked(LlavaForConditionalGeneration, config(), "random", tmp_path)
    unscaled(ours, "image")
    _, given = batch()
    first = alone(given, 1)
    state = ours.begin(first, 8)
    for token in (5, 6, 7):
        state.extend(torch.tensor([token]))
    words = first.streams["text"]
    longer = torch.cat([words.values, torch.tensor([[5, 6, 7, 8, 9]])], 1)
    pixels = first.streams["image"].values
    second = sequences(longer, [longer.shape[1]], image=(pixels, [32], [0]))
    places = []
    ours.decoder.trunk.register_forward_pre_hook(lambda module, args: places.append(len(args[0])))
    found = ours.begin(second, 8, past=state).logits
    close(found, ours.begin(second, 8).logits)
    assert places == [2, longer.shape[1]]


def test_places_and_pictures_must_agree(tmp_path: Path):
    _, _, ours, _ = checked(LlavaForConditionalGeneration, config(), "default", tmp_path)
    unscaled(ours, "image")
    _, given = batch()
    given.streams["text"].values[1, 1] = 5
    with pytest.raises(DataError, match=r"hold 15 places for rows of image .token 98., 1 segments have 16"):
        ours(given)


def test_a_conversation(tmp_path: Path):
    """The ids, pixels and logits of the reference, and its processor from what we write."""
    words = tokenizer(IMAGE)
    prepares = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    processor = LlavaProcessor(prepares, words, 8, "default", llava.TEMPLATE, num_additional_image_tokens=1)
    made = config(
        vision_config={"vocab_size": 77}, place=words.convert_tokens_to_ids(IMAGE), words=len(words)
    )
    messages = [
        message("user", picture(50, 91), picture(32, 40, 1), "What is this?"),
        message("assistant", "Nothing."),
        message("user", "And this?", picture(90, 40, 2)),
    ]
    theirs = reference(LlavaForConditionalGeneration, made, "random")
    found, given, theirs_given = read_alike(theirs, processor, messages, tmp_path / "theirs")
    pixels = found.network.towers["image"].tower.embedding.values(given.streams["image"].values)
    expected = theirs_given["pixel_values"].double().movedim(1, -1)
    torch.testing.assert_close(pixels, expected, atol=1e-6, rtol=0)
    (tmp_path / "ours").mkdir()
    save_public(tmp_path / "ours", found.spec, found.network, found.modalities, "transformers")
    again = AutoProcessor.from_pretrained(tmp_path / "ours", backend="pil")
    rendered = again.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    pictures = [part["image"] for one in messages for part in one["content"] if part["type"] == "image"]
    ids = again(text=rendered, images=pictures, add_special_tokens=False, return_tensors="pt").input_ids
    assert ids.tolist() == given.streams["text"].values.tolist()


def test_a_tower_without_a_class_token_gives_all_patches(tmp_path: Path):
    """Of which 'default' would leave out the first."""
    config().save_pretrained(tmp_path)
    edited(tmp_path, vision_config={"model_type": "siglip_vision_model", "image_size": 32, "patch_size": 8})
    with pytest.raises(CapabilityError, match="'default' leaves out the first patch"):
        read_public(Folder(tmp_path))
