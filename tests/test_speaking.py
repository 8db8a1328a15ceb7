"""Conversations with a small model of parts: what is joined, shown, written, remembered, refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sensorium import Sample, Segment, Session, load
from sensorium.core import CapabilityError, ConfigError, DataError
from sensorium.model import Model
from sensorium.recipes.dual import dual
from sensorium.recipes.llama import llama
from sensorium.run import follow_data
from sensorium.start import load_files, resolve
from sensorium.testing.material import ready
from sensorium.tokens import reading

WORDS = [f"a {size} {kind}" for size in ("big", "small") for kind in ("red star", "blue ring", "green moon")]


def picture(number: int) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def samples() -> list[Sample]:
    return [
        Sample(f"s{n}", (Segment("image", picture(n)), Segment("text", text, target=True)))
        for n, text in enumerate(WORDS)
    ]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dual encoder and a language model, saved."""
    folder = tmp_path_factory.mktemp("parts")
    for name, recipe in (("eyes", dual("tiny")), ("words", llama("tiny"))):
        ready(recipe, samples()).model().save_pretrained(folder / name)
    return folder


def joined(parts: Path, connector: str = "mlp") -> Model:
    towers, trunk = {"image": str(parts / "eyes")}, str(parts / "words")
    start = resolve("vlm", towers=towers, trunk=trunk, connector=connector)
    modalities = {name: part.build() for name, part in start.spec.modalities.items()}
    load_files(modalities, start.files)
    spec = follow_data(start.spec, modalities)
    torch.manual_seed(0)
    network = spec.model.build()
    start.fill(network)
    return Model(network.eval(), modalities, spec)


@pytest.fixture(scope="module")
def model(parts: Path) -> Model:
    return joined(parts)


def asked(number: int, text: str = "what is it?") -> list[dict]:
    content = [{"type": "image", "image": picture(number)}, {"type": "text", "text": text}]
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize("connector", ["linear", "mlp", "resampler", "qformer"])
def test_parts_are_joined(parts: Path, connector: str):
    """With their weights; the table of words has one row more, for the places of pictures."""
    made = joined(parts, connector)
    eyes, words = load(parts / "eyes").network, load(parts / "words").network
    for name, tensor in eyes.towers["image"].state_dict().items():
        assert torch.equal(made.network.towers["image"].state_dict()[name], tensor), name
    table, grown = words.decoder.table, made.network.decoder.table
    assert torch.equal(grown[: len(table)], table)
    assert len(grown) == len(table) + 1
    assert made.network.placeholders == {"image": len(table)}
    found = reading(made, samples()[0])
    assert found.media == {"image": (64, 64) if connector in ("linear", "mlp") else (32, 32)}
    assert made.chat(asked(0), max_new_tokens=3) == made.chat(asked(0), max_new_tokens=3)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"towers": {}, "trunk": "x"}, "vlm needs towers and a language model"),
        ({"towers": {"image": "eyes"}}, "vlm needs towers and a language model"),
        ({"towers": {"image": "eyes"}, "trunk": "eyes"}, "has no language model"),
        ({"towers": {"audio": "words"}, "trunk": "words"}, "has no audio tower"),
        ({"towers": {"image": "eyes"}, "trunk": "words", "connector": "mpl"}, "did you mean 'mlp'"),
        ({"towers": {"image": "eyes"}, "trunk": "words", "connector": "pool"}, "pictures of one size"),
    ],
)
def test_what_cannot_be_joined(parts: Path, how: dict, said: str):
    given = {**how, "towers": {name: str(parts / one) for name, one in how["towers"].items()}}
    if "trunk" in how and how["trunk"] != "x":
        given["trunk"] = str(parts / how["trunk"])
    with pytest.raises(ConfigError, match=said):
        resolve("vlm", **given)


def test_a_session_changes_no_answer(model: Model):
    """Pictures that were seen are not read again, and of the words no more than is new."""
    session, seen, read = Session(), [], []
    tower = model.network.towers["image"].register_forward_pre_hook(lambda m, args: seen.append(len(args[0])))
    trunk = model.network.decoder.trunk.register_forward_pre_hook(lambda m, args: read.append(len(args[0])))
    messages = asked(1)
    for question in ("and now?", "and then?", "and last?"):
        seen.clear(), read.clear()
        alone = model.chat(messages, max_new_tokens=6)
        whole = read[0]
        assert seen == [1]
        seen.clear(), read.clear()
        assert model.chat(messages, session=session, max_new_tokens=6) == alone
        assert sum(seen) == (1 if len(messages) == 1 else 0)
        assert len(messages) == 1 or read[0] < whole / 2
        said = {"role": "assistant", "content": alone or "hm"}
        messages = [*messages, said, {"role": "user", "content": question}]
    tower.remove(), trunk.remove()
    assert model.chat(asked(2), session=session, max_new_tokens=6) == model.chat(asked(2), max_new_tokens=6)


def test_what_is_streamed_is_what_is_said(model: Model):
    pieces = list(model.stream(asked(3), max_new_tokens=12))
    assert "".join(pieces) == model.chat(asked(3), max_new_tokens=12)
    assert "".join(pieces) == model.generate("what is it?", image=picture(3), max_new_tokens=12)


def test_typed_places_are_plain_text(model: Model):
    """A user who writes the placeholder shows no second picture."""
    assert isinstance(model.chat(asked(4, "is <image> a picture?"), max_new_tokens=2), str)


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "the conversation is empty"),
        ([{"role": "usr", "content": "hi"}], r"messages\[0\].role.*did you mean 'user'"),
        ([{"role": "user", "content": [{"type": "smell", "smell": 1}]}], r"messages\[0\].content\[0\].type"),
        ([{"role": "user", "content": [{"type": "image", "image": "no.png"}]}], r"content\[0\].*not found"),
        ([{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}], "the last message is one"),
    ],
)  # fmt: skip
def test_what_cannot_be_said(model: Model, messages: list, said: str):
    with pytest.raises(DataError, match=said):
        model.chat(messages)


def test_a_picture_for_a_model_of_words(parts: Path):
    with pytest.raises(DataError, match=r"messages\[0\].content\[0\].type.*found 'image'"):
        load(parts / "words").chat(asked(0))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": 10**12}, "max_new_tokens"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temprature": 1.0}, "did you mean 'temperature'"),
        ({"n": 2, "temperature": 1.0}, "a conversation has one answer"),
    ],
)
def test_settings_are_checked(model: Model, settings: dict, said: str):
    with pytest.raises(ConfigError, match=said):
        model.chat(asked(0), **settings)


def test_who_cannot_talk(parts: Path):
    with pytest.raises(CapabilityError, match="does not write"):
        load(parts / "eyes").chat(asked(0))
    with pytest.raises(CapabilityError, match="no embeddings"):
        load(parts / "words").embed(text="a star")


def test_weights_of_8_bits_are_saved(model: Model, tmp_path: Path):
    small = model.quantise()
    small.save_pretrained(tmp_path)
    again = load(tmp_path)
    assert again.chat(asked(5), max_new_tokens=4) == small.chat(asked(5), max_new_tokens=4)
    with pytest.raises(CapabilityError):
        small.network.train()


def test_what_is_learnt_is_shown(model: Model):
    question = Segment("text", "which colour?", "user", turn=1)
    answer = Segment("text", "red", "assistant", target=True, turn=1)
    found = reading(model, Sample("one", (*samples()[0].segments, question, answer)))
    assert {token.branch for token in found.tokens} == {0, 1, 2}
    shown = "".join(token.text for token in found.tokens if token.learnt)
    assert shown == "a big red star<|end|>red<|end|>"
    with pytest.raises(DataError, match="nothing to learn"):
        reading(model, Sample("mute", (*samples()[0].segments[:1], question)))
