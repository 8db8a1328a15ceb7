"""Flamingo as IDEFICS against transformers: words that look at pictures, logits, loss, writing, and back."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from recipes.language import checked, real, same_logits, sequences, unscaled
from recipes.parity import INITIALISATIONS, edited, reference, settings
from recipes.pictured import message, picture, tokenizer, written_alike
from torch import Tensor
from transformers import (
    AutoProcessor,
    IdeficsConfig,
    IdeficsForVisionText2Text,
    IdeficsImageProcessorPil,
    IdeficsProcessor,
)
from transformers.models.idefics.processing_idefics import image_attention_mask_for_packed_input_ids_pt

from sensorium.core import CapabilityError, ConfigError, DataError
from sensorium.core.batch import Batch
from sensorium.data.collate import collate
from sensorium.modalities.chat.messages import read_messages
from sensorium.public import open_network, open_public, public_files, read_public, save_public
from sensorium.recipes import flamingo
from sensorium.speaking import conversation
from sensorium.training.rules import treatments
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors

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
    "all patches": {"use_resampler": False, "alpha_type": "vector", "alpha_initializer": "normal",
                    "alphas_initializer_range": 0.5},
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


@torch.no_grad()
def test_a_conversation(tmp_path: Path):
    """What the processor of the reference gives is what is read, and what is written is a whole checkpoint again."""
    words = tokenizer(flamingo.AROUND, flamingo.IMAGE, flamingo.END)
    processor = IdeficsProcessor(IdeficsImageProcessorPil(image_size=32), words, image_size=32)
    place = words.convert_tokens_to_ids(flamingo.IMAGE)
    sizes = {"vocab_size": len(words) - 3, "additional_vocab_size": 3}
    theirs = reference(IdeficsForVisionText2Text, config(**sizes), "random")
    pictures = [picture(50, 91), picture(20, 20, 1), picture(90, 40, 2)]
    theirs.save_pretrained(tmp_path / "theirs")
    processor.save_pretrained(tmp_path / "theirs")
    opened = open_public(tmp_path / "theirs")
    assert opened.network.placeholders == {"image": place}
    messages = [
        message("user", "Two pictures:", pictures[0], pictures[1], "What is this?"),
        message("assistant", "Nothing."),
        message("user", pictures[2], "And this?"),
    ]
    given = collate([conversation(messages, opened.modalities, opened.modalities["text"])], opened.modalities)
    end = flamingo.END
    said = f"What is this?{end}\nAssistant: Nothing.{end}\nUser:"
    prompt = [
        "User: Two pictures:",
        pictures[0],
        pictures[1],
        said,
        pictures[2],
        f"And this?{end}\nAssistant:",
    ]
    expected = processor(text=[prompt], add_end_of_utterance_token=False)
    assert given.streams["text"].values.tolist() == expected["input_ids"].tolist()
    found = opened.network.towers["image"].embedding.values(given.streams["image"].values)
    torch.testing.assert_close(found.movedim(-1, 1), expected["pixel_values"][0], atol=1e-6, rtol=0)
    double = {name: x.double() if x.is_floating_point() else x for name, x in expected.items()}
    state = opened.network.double().begin(given)
    torch.testing.assert_close(state.logits, theirs(**double).logits[:, -1], atol=1e-5, rtol=0)

    save_public(tmp_path / "ours", opened.spec, opened.network, opened.modalities, "transformers")
    again = AutoProcessor.from_pretrained(tmp_path / "ours", backend="pil")
    assert isinstance(again, IdeficsProcessor)
    same = again(text=[prompt], add_end_of_utterance_token=False)
    assert same["input_ids"].tolist() == expected["input_ids"].tolist()
    torch.testing.assert_close(same["pixel_values"], expected["pixel_values"])


def test_those_not_taught_to_converse_are_spoken_to_without_an_end(tmp_path: Path):
    words = tokenizer(flamingo.AROUND, flamingo.IMAGE)
    words.save_pretrained(tmp_path)
    config(vocab_size=len(words) - 2).save_pretrained(tmp_path)
    spec = read_public(Folder(tmp_path))
    text = spec.modalities["text"].build()
    text.load(tmp_path)
    ids = text.prompt(read_messages([{"role": "user", "content": "Hi"}], []))
    assert words.decode(ids) == "<s>User: Hi\nAssistant:"


def test_what_was_there_before_is_frozen(tmp_path: Path):
    config(freeze_lm_head=True).save_pretrained(tmp_path)
    spec = read_public(Folder(tmp_path))
    named = treatments(spec.model.build().named_parameters(), [one.build() for one in spec.training.rules])
    learns = {name for name, how in named.items() if how.rate}
    assert learns == {name for name in named if ".cross." in name or name.startswith("connectors.")}
    config(freeze_text_layers=False, freeze_vision_layers=False).save_pretrained(tmp_path)
    assert read_public(Folder(tmp_path)).training.rules == []


@torch.no_grad()
def test_what_older_files_hold_beside(tmp_path: Path):
    """Angles and places that are computed, and fields that training left, which are written again."""
    theirs = reference(IdeficsForVisionText2Text, config(), "random")
    theirs.save_pretrained(tmp_path)
    more = {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(6) for i in range(4)}
    more |= {
        f"model.gated_cross_attn_layers.{i}.cross_attn.rotary_emb.inv_freq": torch.ones(6) for i in range(2)
    }
    more["model.vision_model.embeddings.position_ids"] = torch.arange(17)[None]
    tensors = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    write_tensors(tmp_path, tensors | more)
    left = {"ffn_dim": 64, "word_embed_proj_dim": 48, "cross_layer_activation_function": "swiglu"}
    edited(tmp_path, **left)
    spec, ours = open_network(Folder(tmp_path), torch.float64)
    unscaled(ours.eval(), "image")
    given = batch()
    words = given.streams["text"]
    mask = real(words.values, words.lengths.tolist())
    same_logits(given, ours, theirs(words.values, attention_mask=mask, **media(given)).logits)
    assert public_files(flamingo.FAMILY, spec)["config.json"].items() >= left.items()


@pytest.mark.parametrize(
    ("fields", "error", "match"),
    [
        ({"dropout": 0.1}, CapabilityError, "config.json: dropout: only 0.0 is supported, found 0.1"),
        ({"cross_layer_interval": 3}, ConfigError, "cross_layer_interval: expected a divisor of 4 layers, found 3"),
        ({"alpha_type": "matrix"}, ConfigError, "alpha_type: expected one of 'float', 'vector', found 'matrix'"),
        ({"use_gates": True}, ConfigError, "use_gates: unknown field"),
    ],
)  # fmt: skip
def test_refusals(fields: dict, error: type[Exception], match: str, tmp_path: Path):
    config().save_pretrained(tmp_path)
    edited(tmp_path, **fields)
    with pytest.raises(error, match=match):
        read_public(Folder(tmp_path))


@torch.no_grad()
def test_places_and_pictures_must_agree(tmp_path: Path):
    _, _, ours, _ = checked(IdeficsForVisionText2Text, config(), "default", tmp_path)
    unscaled(ours, "image")
    given = batch()
    given.streams["text"].values[1, 1] = 5
    with pytest.raises(DataError, match="key 'b': its words hold 0 places for image"):
        ours(given)
