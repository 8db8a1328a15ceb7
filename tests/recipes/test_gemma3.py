"""Gemma 3 against transformers: pictures whose rows see each other, logits, loss, writing, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.language import checked, real, same_logits, sequences, unscaled
from recipes.parity import INITIALISATIONS, close, reference, settings
from recipes.pictured import message, picture, read_alike, tokenizer, written_alike
from recipes.trunks import refused
from torch import Tensor
from transformers import (
    AutoProcessor,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessorPil,
    Gemma3Processor,
)

from sensorium.core import CapabilityError
from sensorium.core.batch import Batch
from sensorium.public import open_network, public_files, read_public, save_public
from sensorium.recipes import gemma3
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors

PLACE, ROWS = 98, 4
FULL, SLIDING = "full_attention", "sliding_attention"
#: Windows are smaller than a picture: what of it comes later is seen all the same.
VARIANTS: dict[str, dict[str, Any]] = {
    "usual": {"text": {"sliding_window": 3, "layer_types": [SLIDING, SLIDING, FULL]}},
    "scaled": {
        "text": {"sliding_window": 7, "layer_types": [FULL, SLIDING, FULL],
                 "rope_parameters": {
                     FULL: {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
                     SLIDING: {"rope_type": "default", "rope_theta": 100.0}}},
        "vision": {"vision_use_head": True, "layer_norm_eps": 1e-3},
        "mm_tokens_per_image": 16, "tie_word_embeddings": False,
    },
}  # fmt: skip


def config(variant: str = "usual", vocabulary: int = 99, place: int = PLACE, **changes: Any) -> Gemma3Config:
    """A tiny one with 16 patches a picture."""
    given = {"mm_tokens_per_image": ROWS, "tie_word_embeddings": True} | VARIANTS[variant] | changes
    vision = {"model_type": "siglip_vision_model", "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2,
              "num_attention_heads": 4, "image_size": 32, "patch_size": 8, "vision_use_head": False}  # fmt: skip
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 12, "query_pre_attn_scalar": 24, "vocab_size": vocabulary,
            "tie_word_embeddings": given["tie_word_embeddings"]}  # fmt: skip
    return Gemma3Config(
        vision_config=vision | given.pop("vision", {}),
        text_config=text | given.pop("text"),
        image_token_index=place,
        **given,
    )


def batch(rows: int = ROWS) -> tuple[Tensor, Batch]:
    """Two pictures in the first sequence, one in the second, none in the third."""
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(3, 32, 32, 3, generator=generator, dtype=torch.float64)
    ids = torch.randint(3, 97, (3, 14 + 2 * rows), generator=generator)
    ids[0, 2 : 2 + rows] = ids[0, 4 + rows : 4 + 2 * rows] = ids[1, 1 : 1 + rows] = PLACE
    lengths = [14 + 2 * rows, 7 + rows, 9]
    return pixels, sequences(ids, lengths, first=4, image=(pixels, [32] * 3, [0, 0, 1]))


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    theirs, _, ours, again = checked(
        Gemma3ForConditionalGeneration, config(variant), initialisation, tmp_path
    )
    unscaled(ours, "image")
    pixels, given = batch(VARIANTS[variant].get("mm_tokens_per_image", ROWS))
    words = given.streams["text"]
    for model in (theirs, again):
        expected = model(
            words.values,
            pixel_values=pixels.movedim(-1, 1),
            attention_mask=real(words.values, words.lengths.tolist()),
            token_type_ids=(words.values == PLACE).long(),
        )
        same_logits(given, ours, expected.logits)
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("variant", VARIANTS)
def test_writing(variant: str, tmp_path: Path):
    """64 tokens."""
    theirs, _, ours, _ = checked(Gemma3ForConditionalGeneration, config(variant), "random", tmp_path)
    unscaled(ours, "image")

    def media(one: Batch) -> dict[str, Tensor]:
        found = {"token_type_ids": (one.streams["text"].values == PLACE).long()}
        if len(one.streams["image"]):
            found["pixel_values"] = one.streams["image"].values.movedim(-1, 1)
        return found

    _, given = batch(VARIANTS[variant].get("mm_tokens_per_image", ROWS))
    written_alike(theirs, ours, given, media, 64)


@pytest.mark.parametrize("rows", [3, 9])
def test_pictures_are_averaged_in_whole_squares(rows: int, tmp_path: Path):
    refused(config(), tmp_path, f"mm_tokens_per_image: .* divide 4 x 4 patches .* found {rows}",
            mm_tokens_per_image=rows)  # fmt: skip


def test_a_conversation(tmp_path: Path):
    """The same tokens, pixels and logits as with a processor of transformers; what is written is whole."""
    words = tokenizer(
        "<start_of_turn>", "<end_of_turn>",
        boi_token=gemma3.BEGIN, eoi_token=gemma3.END, image_token=gemma3.IMAGE,
    )  # fmt: skip
    prepares = Gemma3ImageProcessorPil(size={"height": 32, "width": 32})
    processor = Gemma3Processor(prepares, words, image_seq_length=ROWS, chat_template=gemma3.TEMPLATE)
    place = words.convert_tokens_to_ids(gemma3.IMAGE)
    theirs = reference(Gemma3ForConditionalGeneration, config(vocabulary=len(words), place=place), "random")
    messages = [
        message("system", "Be short."),
        message("user", "Two pictures:", picture(50, 91), picture(20, 20, 1), "What is this?"),
        message("assistant", "Nothing."),
        message("user", picture(90, 40, 2), "And this?"),
    ]
    opened, given, reference_given = read_alike(theirs, processor, messages, tmp_path / "theirs")
    expected = reference_given["pixel_values"].double().movedim(1, -1)
    pixels = opened.network.towers["image"].embedding.values
    torch.testing.assert_close(pixels(given.streams["image"].values), expected, atol=1e-6, rtol=0)

    (tmp_path / "ours").mkdir()
    save_public(tmp_path / "ours", opened.spec, opened.network, opened.modalities, "transformers")
    again = AutoProcessor.from_pretrained(tmp_path / "ours", backend="pil")
    assert type(again) is Gemma3Processor
    assert again.image_seq_length == ROWS
    Gemma3ForConditionalGeneration.from_pretrained(tmp_path / "ours")


def test_a_softcap_that_others_do_not_heed(tmp_path: Path):
    made = config()
    made.text_config.final_logit_softcapping = 5.0
    refused(made, tmp_path, "text_config.final_logit_softcapping: only None")


def test_crops_are_refused(tmp_path: Path):
    config().save_pretrained(tmp_path)
    Gemma3ImageProcessorPil(do_pan_and_scan=True).save_pretrained(tmp_path)
    with pytest.raises(CapabilityError, match="do_pan_and_scan: only False"):
        read_public(Folder(tmp_path))


@torch.no_grad()
def test_names_in_memory(tmp_path: Path):
    theirs = reference(Gemma3ForConditionalGeneration, config(), "random")
    theirs.save_pretrained(tmp_path)
    write_tensors(tmp_path, {name: tensor.clone() for name, tensor in theirs.state_dict().items()})
    _, ours = open_network(Folder(tmp_path), torch.float64)
    unscaled(ours, "image")
    pixels, given = batch()
    words = given.streams["text"]
    expected = theirs(
        words.values[:1],
        pixel_values=pixels[:2].movedim(-1, 1),
        token_type_ids=(words.values[:1] == PLACE).long(),
    )
    close(ours.eval().begin(given).logits[:1], expected.logits[:, -1])


def test_fields_of_older_files(tmp_path: Path):
    """Those that public checkpoints of the first age have, which leave out much; they are kept."""
    eye = {"hidden_size": 1152, "image_size": 896, "intermediate_size": 4304, "model_type": "siglip_vision_model",
           "num_attention_heads": 16, "num_hidden_layers": 27, "patch_size": 14, "vision_use_head": False}  # fmt: skip
    text = {"hidden_size": 2560, "intermediate_size": 10240, "model_type": "gemma3_text", "num_hidden_layers": 34,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}, "sliding_window": 1024}  # fmt: skip
    fields = {"boi_token_index": 255999, "eoi_token_index": 256000, "eos_token_id": [1, 106],
              "image_token_index": 262144, "initializer_range": 0.02, "mm_tokens_per_image": 256,
              "model_type": "gemma3", "text_config": text, "torch_dtype": "bfloat16", "vision_config": eye}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(fields))
    spec = read_public(Folder(tmp_path))
    assert spec.modalities["text"].placeholders["image"].count == 256
    assert (spec.model.decoder.embedding.vocabulary, spec.model.decoder.head) == (262_208, None)
    assert public_files(gemma3.FAMILY, spec)["config.json"]["eos_token_id"] == [1, 106]


def test_fresh():
    spec = gemma3.gemma3("tiny")
    assert gemma3.END in spec.modalities["text"].special
    network = spec.model.build()
    assert (network.decoder.vocabulary, network.connectors["image"].kernel) == (2048, 2)
