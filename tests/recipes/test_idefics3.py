"""Idefics3 and SmolVLM against transformers: pictures in tiles among words, logits, loss, writing, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from recipes.language import checked, real, same_logits, sequences, stream
from recipes.parity import INITIALISATIONS, edited, reference, settings
from recipes.pictured import message, picture, read_alike, tokenizer, written_alike
from torch import Tensor
from transformers import (
    AutoProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessorPil,
    Idefics3Processor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)
from transformers.models.smolvlm.processing_smolvlm import get_image_prompt_string

from sensorium.core import CapabilityError
from sensorium.core.batch import Batch
from sensorium.modalities.chat.placeholders import TileGrid
from sensorium.public import public_files, read_public, save_public
from sensorium.recipes import idefics3
from sensorium.weights.family import Folder

PLACE, ROWS = 98, 4
MODELS = {
    "idefics3": (Idefics3Config, Idefics3ForConditionalGeneration),
    "smolvlm": (SmolVLMConfig, SmolVLMForConditionalGeneration),
}


def config(kind: str = "idefics3", vocabulary: int = 99, place: int = PLACE, **changes):
    """A tiny one with 16 patches a tile, of which four rows become."""
    vision = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
              "image_size": 32, "patch_size": 8} | changes.pop("vision", {})  # fmt: skip
    text = {"model_type": "llama", "hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": vocabulary,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": changes.get("tie_word_embeddings", False)}  # fmt: skip
    return MODELS[kind][0](
        vision_config=vision, text_config=text, image_token_id=place, **{"pad_token_id": 0} | changes
    )


def batch(rows: int = ROWS) -> Batch:
    """Three tiles and one in the first sequence, one in the second, none in the third."""
    generator = torch.Generator().manual_seed(3)
    tiles = torch.randn(3, 3, 32, 32, 3, generator=generator, dtype=torch.float64)
    counts, owners = torch.tensor([3, 1, 1]), torch.tensor([0, 0, 1])
    ids = torch.randint(3, 97, (3, 10 + 4 * rows), generator=generator)
    ids[0, 2 : 2 + 3 * rows] = ids[0, 4 + 3 * rows : 4 + 4 * rows] = ids[1, 1 : 1 + rows] = PLACE
    found = sequences(ids, [10 + 4 * rows, 5 + rows, 7], first=3 * rows)
    layout = torch.tensor([[1, 2], [0, 0], [0, 0]])
    found.streams["image"] = stream(tiles, counts, owners, layout=layout)
    return found


def tiles(given: Batch) -> Tensor:
    """All pictures as the reference takes them: its third sequence has none."""
    image = given.streams["image"]
    found = torch.zeros(len(given), 4, 3, 32, 32, dtype=torch.float64)
    for owner in range(len(given)):
        mine = [
            image.values[row, :count]
            for row, count in enumerate(image.lengths.tolist())
            if image.owner[row] == owner
        ]
        if mine:
            joined = torch.cat(mine).movedim(-1, 1)
            found[owner, : len(joined)] = joined
    return found


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("changes", [{}, {"scale_factor": 4, "tie_word_embeddings": True}])
@torch.no_grad()
def test_parity(initialisation: str, kind: str, changes: dict, tmp_path: Path):
    theirs, _, ours, again = checked(MODELS[kind][1], config(kind, **changes), initialisation, tmp_path)
    given = batch(16 // changes.get("scale_factor", 2) ** 2)
    words = given.streams["text"]
    for model in (theirs, again):
        mask = real(words.values, words.lengths.tolist())
        same_logits(given, ours, model(words.values, pixel_values=tiles(given), attention_mask=mask).logits)
    assert settings(again.config) == settings(theirs.config)
    assert (ours.decoder.head is None) == ("tie_word_embeddings" in changes)


def test_writing(tmp_path: Path):
    """64 tokens."""
    theirs, _, ours, _ = checked(Idefics3ForConditionalGeneration, config(), "random", tmp_path)

    def media(one: Batch) -> dict[str, Tensor]:
        return {"pixel_values": tiles(one)} if len(one.streams["image"]) else {}

    written_alike(theirs, ours, batch(), media, 64)


SPECIAL = [
    idefics3.IMAGE, idefics3.BORDER, idefics3.WHOLE, "<end_of_utterance>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 4) for column in range(1, 4)),
]  # fmt: skip


@pytest.mark.parametrize(("longest", "splits"), [(96, True), (96, False), (32, True)])
def test_a_conversation(longest: int, splits: bool, tmp_path: Path):
    words = tokenizer(*SPECIAL)
    prepares = Idefics3ImageProcessorPil(
        size={"longest_edge": longest}, max_image_size={"longest_edge": 32}, do_image_splitting=splits
    )
    processor = Idefics3Processor(prepares, words, image_seq_len=ROWS, chat_template=idefics3.TEMPLATE)
    sizes = {"vocabulary": len(words), "place": words.convert_tokens_to_ids(idefics3.IMAGE)}
    theirs = reference(Idefics3ForConditionalGeneration, config(**sizes), "random")
    messages = [
        message("user", "Two pictures:\n\n", picture(50, 91), picture(20, 20, 1), "What is this?"),
        message("assistant", "Nothing."),
        message("user", picture(90, 40, 2), "\nAnd this?"),
    ]
    opened, given, reference_given = read_alike(theirs, processor, messages, tmp_path / "theirs")
    image = given.streams["image"]
    if splits:
        assert image.lengths.tolist() == ([7, 10, 7] if longest == 96 else [1, 1, 1])
        found = torch.cat([row[:count] for row, count in zip(image.values, image.lengths, strict=True)])
    else:
        found = image.values
    pixels = (
        opened.network.towers["image"].tower.embedding if splits else opened.network.towers["image"].embedding
    )
    expected = reference_given["pixel_values"][0].double().movedim(1, -1)
    torch.testing.assert_close(pixels.values(found), expected, atol=1e-6, rtol=0)

    # what is written is a whole checkpoint for others: the model and its processor
    (tmp_path / "ours").mkdir()
    save_public(tmp_path / "ours", opened.spec, opened.network, opened.modalities, "transformers")
    again = AutoProcessor.from_pretrained(tmp_path / "ours", backend="pil")
    assert again.image_seq_len == ROWS
    assert again.image_processor.to_dict()["max_image_size"] == {"longest_edge": 32}
    text = again.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert again.tokenizer(text).input_ids == words(text).input_ids


@pytest.mark.parametrize("layout", [(0, 0), (1, 2), (3, 4)])
def test_places_of_tiles(layout: tuple[int, int]):
    found = TileGrid(
        written="<image>", token="<image>", count=3, border="<border>", place=idefics3.PLACE, whole="<all>"
    ).expand(torch.zeros(1), layout)
    assert "".join(found) == get_image_prompt_string(*layout, 3, "<border>", "<image>", "<all>")


def test_what_training_left_in_a_config_is_kept(tmp_path: Path):
    config().save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    left = {"pixel_shuffle_factor": 2, "perceiver_config": {"x": 1}, "use_resampler": False}
    older = {
        "vision_config": fields["vision_config"] | {"model_type": "idefics3", "size": {"longest_edge": 64}}
    }
    edited(
        tmp_path,
        text_config=fields["text_config"] | left,
        **older,
        vocab_size=99,
        **{"transformers.js_config": {}},
    )
    spec = read_public(Folder(tmp_path))
    again = public_files(idefics3.FAMILY, spec)["config.json"]
    assert again["text_config"]["perceiver_config"] == {"x": 1}
    assert again["vision_config"]["size"] == {"longest_edge": 64}


@pytest.mark.parametrize(
    ("section", "field", "value", "match"),
    [
        ("text_config", "use_resampler", True, "text_config.use_resampler: only False"),
        ("text_config", "qk_layer_norms", True, "text_config.qk_layer_norms: only False"),
        (
            "vision_config",
            "image_size",
            200,
            "vision_config.image_size: of 25 x 25 patches some would have the place",
        ),
    ],
)
def test_refusals(section: str, field: str, value: object, match: str, tmp_path: Path):
    config().save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    edited(tmp_path, **{section: fields[section] | {field: value}})
    with pytest.raises(CapabilityError, match=match):
        read_public(Folder(tmp_path))


def test_tiles_must_be_as_large_as_the_table_of_positions(tmp_path: Path):
    config().save_pretrained(tmp_path)
    Idefics3ImageProcessorPil(max_image_size={"longest_edge": 64}).save_pretrained(tmp_path)
    with pytest.raises(CapabilityError, match=r"max_image_size: .* 4 patches of 8 pixels, found 64 pixels"):
        read_public(Folder(tmp_path))
