"""PaliGemma against transformers: pictures and questions read both ways, logits, loss, writing, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipes.language import checked, real, same_logits, sequences, unscaled
from recipes.parity import INITIALISATIONS, close, reference, settings
from recipes.pictured import message, picture, tokenizer, written_alike
from recipes.trunks import refused
from torch import Tensor
from transformers import (
    AutoProcessor,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipImageProcessorPil,
)

from sensorium.core import ConfigError, Sample, Segment
from sensorium.core.batch import Batch
from sensorium.data.collate import collate
from sensorium.data.item import prepare
from sensorium.public import open_network, open_public, public_files, read_public, save_public
from sensorium.recipes import paligemma
from sensorium.speaking import conversation
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors

PLACE = 98
FULL, SLIDING = "full_attention", "sliding_attention"
TEXT = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 12, "vocab_size": 99}  # fmt: skip
#: The windows of Gemma 2 are smaller than a picture, which is read both ways all the same.
VARIANTS: dict[str, dict[str, Any]] = {
    "1": {"model_type": "gemma", "num_key_value_heads": 1},
    "2": {"model_type": "gemma2", "sliding_window": 5, "query_pre_attn_scalar": 12,
          "layer_types": [SLIDING, FULL, SLIDING], "final_logit_softcapping": 30.0},
    "2, untied": {"model_type": "gemma2", "sliding_window": 7, "tie_word_embeddings": False,
                  "attn_logit_softcapping": None},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch):
    """Gemma 2 has only the attention that rounds to single precision: not here."""
    monkeypatch.setattr(PaliGemmaForConditionalGeneration, "_supports_sdpa", False)
    monkeypatch.setattr(torch.nn.functional, "softmax", lambda x, dim, dtype=None: x.softmax(dim))


def config(variant: str = "1", vocabulary: int = 99, place: int = PLACE) -> PaliGemmaConfig:
    """A tiny one with 16 patches a picture."""
    vision = {"model_type": "siglip_vision_model", "hidden_size": 24, "intermediate_size": 48, "num_hidden_layers": 2,
              "num_attention_heads": 4, "image_size": 32, "patch_size": 8, "vision_use_head": False}  # fmt: skip
    text = TEXT | VARIANTS[variant] | {"vocab_size": vocabulary}
    return PaliGemmaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=place,
        projection_dim=32,
        hidden_size=32,
        tie_word_embeddings=text.get("tie_word_embeddings", True),
    )


def batch() -> tuple[Tensor, Batch]:
    """Two pictures in the first sequence, one in the second, none in the third."""
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(3, 32, 32, 3, generator=generator, dtype=torch.float64)
    ids = torch.randint(3, 97, (3, 45), generator=generator)
    ids[0, :32] = ids[1, :16] = PLACE
    given = sequences(ids, [45, 26, 9], image=(pixels, [32] * 3, [0, 0, 1]))
    prompts = torch.tensor([38, 20, 5])
    given.streams["text"].learnt[:] &= torch.arange(45) >= prompts[:, None]
    return pixels, given


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_parity(initialisation: str, variant: str, tmp_path: Path):
    theirs, _, ours, again = checked(
        PaliGemmaForConditionalGeneration, config(variant), initialisation, tmp_path
    )
    unscaled(ours, "image")
    pixels, given = batch()
    words = given.streams["text"]
    for model in (theirs, again):
        expected = model(
            words.values,
            pixel_values=pixels.movedim(-1, 1),
            attention_mask=real(words.values, words.lengths.tolist()),
            token_type_ids=words.learnt.long(),
        )
        same_logits(given, ours, expected.logits)
    found, expected = settings(again.config), settings(theirs.config)
    found["text_config"] = {name: found["text_config"][name] for name in expected["text_config"]}
    assert found == expected


@pytest.mark.parametrize("variant", ["1", "2"])
def test_writing(variant: str, tmp_path: Path):
    """64 tokens: the whole prompt is read both ways."""
    theirs, _, ours, _ = checked(PaliGemmaForConditionalGeneration, config(variant), "random", tmp_path)
    unscaled(ours, "image")
    _, given = batch()
    given.streams["text"].learnt[:] = False

    def media(one: Batch) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {"token_type_ids": torch.zeros_like(one.streams["text"].values)}
        if len(one.streams["image"]):
            found["pixel_values"] = one.streams["image"].values.movedim(-1, 1)
        return found

    written_alike(theirs, ours, given, media, 64)


@torch.no_grad()
def test_a_question(tmp_path: Path):
    """The same tokens, pixels and logits as with a processor of transformers, with and without an answer."""
    words = tokenizer(paligemma.IMAGE)
    prepares = SiglipImageProcessorPil(size={"height": 32, "width": 32})
    prepares.image_seq_length = 16
    processor = PaliGemmaProcessor(prepares, words)
    place = words.convert_tokens_to_ids(paligemma.IMAGE)
    theirs = reference(
        PaliGemmaForConditionalGeneration, config(vocabulary=len(words), place=place), "random"
    )
    theirs.save_pretrained(tmp_path / "theirs")
    processor.save_pretrained(tmp_path / "theirs")
    opened = open_public(tmp_path / "theirs")
    network = opened.network.double()
    pictures = [picture(50, 91), picture(20, 20, 1)]

    def given(**more: Any) -> dict[str, Tensor]:
        found = processor(text="<image><image>What is this?", images=[pictures], **more)
        names = ("input_ids", "token_type_ids")
        pixels = torch.from_numpy(np.stack(found["pixel_values"])).double()
        return {name: torch.tensor(found[name]) for name in names} | {"pixel_values": pixels}

    asked = message("user", *pictures, "What is this?")
    item = conversation([asked], opened.modalities, opened.modalities["text"])
    batch, expected = collate([item], opened.modalities), given()
    assert batch.streams["text"].values.tolist() == expected["input_ids"].tolist()
    pixels = network.towers["image"].embedding.values(batch.streams["image"].values).double()
    torch.testing.assert_close(pixels, expected["pixel_values"].movedim(1, -1), atol=1e-6, rtol=0)
    found = network.begin(batch).logits
    torch.testing.assert_close(found, theirs(**expected).logits[:, -1], atol=1e-5, rtol=0)

    said = [Segment("image", np.asarray(one)) for one in pictures]
    said += [Segment("text", "What is this?"), Segment("text", "Two stars.", target=True)]
    batch = collate([prepare(Sample("one", tuple(said)), opened.modalities)], opened.modalities)
    expected = given(suffix=["Two stars."])
    assert batch.streams["text"].values.tolist() == expected["input_ids"].tolist()
    assert batch.streams["text"].learnt.long().tolist() == expected["token_type_ids"].tolist()
    logits = theirs(**expected).logits[:, :-1][batch.streams["text"].learnt[:, 1:]]
    torch.testing.assert_close(network(batch).language.logits, logits, atol=1e-5, rtol=0)

    save(tmp_path / "ours", opened)


def save(folder: Path, opened: Any) -> None:
    """What is written is a whole checkpoint for others: the model and its processor."""
    folder.mkdir()
    save_public(folder, opened.spec, opened.network, opened.modalities, "transformers")
    again = AutoProcessor.from_pretrained(folder, backend="pil")
    assert type(again) is PaliGemmaProcessor
    assert again.image_seq_length == 16
    PaliGemmaForConditionalGeneration.from_pretrained(folder)


def test_a_projector_to_another_width(tmp_path: Path):
    refused(config(), tmp_path, "projection_dim: expected the width of the words, 32, found 48", ConfigError,
            projection_dim=48)  # fmt: skip


@torch.no_grad()
def test_names_in_memory(tmp_path: Path):
    theirs = reference(PaliGemmaForConditionalGeneration, config(), "random")
    theirs.save_pretrained(tmp_path)
    write_tensors(tmp_path, {name: tensor.clone() for name, tensor in theirs.state_dict().items()})
    _, ours = open_network(Folder(tmp_path), torch.float64)
    unscaled(ours, "image")
    pixels, given = batch()
    words = given.streams["text"]
    expected = theirs(
        words.values[:1],
        pixel_values=pixels[:2].movedim(-1, 1),
        token_type_ids=words.learnt[:1].long(),
    )
    close(ours.eval().begin(given).logits[:1], expected.logits[:, -1])


def test_fields_of_older_files(tmp_path: Path):
    """Those that public checkpoints of the first age have besides; they are kept."""
    eye = {"hidden_size": 1152, "intermediate_size": 4304, "num_attention_heads": 16, "num_hidden_layers": 27,
           "model_type": "siglip_vision_model", "num_image_tokens": 256, "patch_size": 14, "projection_dim": 2048,
           "projector_hidden_act": "gelu_fast", "vision_use_head": False}  # fmt: skip
    text = {"hidden_size": 2048, "intermediate_size": 16384, "model_type": "gemma", "num_attention_heads": 8,
            "num_hidden_layers": 18, "num_image_tokens": 256, "num_key_value_heads": 1, "torch_dtype": "float32",
            "vocab_size": 257216}  # fmt: skip
    fields = {"_vocab_size": 257152, "bos_token_id": 2, "eos_token_id": 1, "hidden_size": 2048,
              "ignore_index": -100, "image_token_index": 257152, "model_type": "paligemma", "pad_token_id": 0,
              "projection_dim": 2048, "text_config": text, "vision_config": eye}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(fields))
    spec = read_public(Folder(tmp_path))
    assert spec.modalities["text"].placeholders["image"].count == 256
    assert spec.model.decoder.head is None
    again = public_files(paligemma.FAMILY, spec)["config.json"]
    assert again["vision_config"]["projector_hidden_act"] == "gelu_fast"
    assert again["text_config"]["num_image_tokens"] == 256


def test_fresh():
    network = paligemma.paligemma("tiny").model.build()
    assert (network.decoder.vocabulary, network.connectors["image"].width) == (2048, 128)
