"""What a user holds: a trained run, loaded, used, saved and loaded again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

import sensorium as sm
from sensorium.core import CapabilityError, CheckpointError, ConfigError, DataError, Sample, Segment
from sensorium.data.sources.open import open_source
from sensorium.data.world import write_world
from sensorium.embeddings import write_embeddings
from sensorium.modalities import standard
from sensorium.model import read_spec
from sensorium.run import Plan, train

SMALL = ("trunk.width=32", "loading.batch=8", "embedding=16", "training.validate=1")
NARROW = (
    *(f"model.encoders.{name}.stem.width=32" for name in ("image", "audio", "video", "series")),
    *(f"trunk.block.{part}.width=32" for part in ("norm", "attention", "feed_forward")),
    "trunk.block.attention.heads=2",
    "trunk.block.feed_forward.hidden=128",
)


NORMED = """
from torch import nn
from sensorium.nn.encoders.stems import ConvStem

class NormedStem(ConvStem):
    def __init__(self, *, patch: list[int], channels: int, width: int) -> None:
        super().__init__(patch=patch, channels=channels, width=width)
        self.norm = nn.BatchNorm1d(width)

    def forward(self, values, lengths):
        return self.norm(super().forward(values, lengths).transpose(1, 2)).transpose(1, 2)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("world") / "w"
    write_world(
        place, 24, test_samples=12, compositional_samples=0, validation_samples=8, clips=0.3, workers=1
    )
    return place


def plan(world: Path, out: Path, *more: str) -> Plan:
    overrides = (*SMALL, *NARROW, "model.encoders.text.width=32", *more)
    return Plan("unified:tiny", [str(world / "train.jsonl")], out, overrides, {"steps": 3})


@pytest.fixture(scope="module")
def run(world, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "r"
    assert train(plan(world, out), console=Console(quiet=True)).finished
    return out


@pytest.fixture(scope="module")
def model(run) -> sm.Model:
    return sm.load(run)


@pytest.fixture(scope="module")
def samples(world, model) -> list[Sample]:
    return list(open_source(world / "test.jsonl", modalities=standard()))


def test_embeddings_are_unit_length_and_the_same_in_any_batch(model, samples):
    for name in ("image", "audio", "text"):
        values = [s.content(name).value for s in samples]
        together = model.embed(**{name: values})
        torch.testing.assert_close(together.norm(dim=1), torch.ones(len(values)))
        one_by_one = torch.cat([model.embed(**{name: value}) for value in values])
        torch.testing.assert_close(together, one_by_one, atol=1e-5, rtol=0)


def test_features_have_one_row_per_token(model, samples):
    image, audio = (
        model.features(image=samples[0].content("image").value)[0],
        model.features(audio=[s.content("audio").value for s in samples[:3]]),
    )
    assert image.shape == (64, 32)
    assert len({len(rows) for rows in audio}) >= 1
    assert all(rows.shape[1] == 32 for rows in audio)


def test_classes_and_ensembles(model, samples):
    value = samples[0].content("image").value
    one = model.classify(["red", "blue"], image=value)
    torch.testing.assert_close(one.sum(1), torch.ones(1))
    ensemble = model.classify(["red", "blue"], ["a {} star", "{}"], image=value)
    assert not torch.allclose(one, ensemble)
    with pytest.raises(ConfigError, match=r"must hold one \{\}"):
        model.classify(["red"], "no place", image=value)
    with pytest.raises(ConfigError, match="at least one label"):
        model.classify([], image=value)


def test_score_is_the_log_probability_of_the_targets(model, samples):
    found = model.score(samples[0])
    tokens = sum(len(model.modalities["text"].prepare(s.value)) - 1 for s in samples[0].segments if s.target)
    assert found.shape == (tokens,)
    assert (found < 0).all()
    with pytest.raises(ConfigError, match="no target"):
        model.score(Sample("x", (Segment("text", "a word"),)))


def test_what_it_restores_can_be_shown(model, samples):
    for name in ("image", "video"):
        values = [s.content(name).value for s in samples if s.content(name)]
        found = model.reconstruct(**{name: values})
        assert len(found) == len(values)
        assert all(0 <= one.explained <= 1 for one in found)
        show = model.modalities[name].show
        assert len({show(part) for part in (found[0].whole, found[0].hidden, found[0].restored)}) == 3
        again = model.reconstruct(batch_size=2, **{name: values})
        assert [show(one.hidden) for one in again] == [show(one.hidden) for one in found]
        other = model.reconstruct(seed=1, **{name: values})
        assert show(other[0].hidden) != show(found[0].hidden)
    with pytest.raises(CapabilityError, match="what was prepared of audio cannot be looked at"):
        model.reconstruct(audio=[s.content("audio").value for s in samples if s.content("audio")])
    with pytest.raises(CapabilityError, match="restores no hidden parts of text"):
        model.reconstruct(text=["a red circle"])


def test_generate_and_complete_agree_and_ignore_targets(model, samples):
    value = samples[0].content("image").value
    asked = model.generate("what colour is it?", image=value, max_new_tokens=6)
    question = Segment("text", "what colour is it?", role="user", turn=1)
    answer = Segment("text", "it must not be read", role="assistant", target=True, turn=1)
    full = Sample("x", (Segment("image", value), question, answer))
    assert model.complete([full], max_new_tokens=6) == [asked]
    with pytest.raises(ConfigError, match="needs a prompt"):
        model.generate()


def test_values_in_memory_are_values_too(model, samples):
    path = samples[0].content("image").value
    read = model.modalities["image"].read(path)
    torch.testing.assert_close(model.embed(image=path), model.embed(image=read))
    torch.testing.assert_close(model.embed(image=path), model.embed(image=Path(path).read_bytes()))


def test_wrong_values_are_named(model):
    with pytest.raises(CapabilityError, match="does not know 'smell'"):
        model.embed(smell=["rose"])
    with pytest.raises(ConfigError, match="one modality"):
        model.embed(image=["a"], text=["b"])
    with pytest.raises(DataError, match="not found"):
        model.embed(image=["nowhere.png"])


def test_saved_and_loaded_is_the_same(model, samples, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    again = sm.load(tmp_path / "saved")
    values = [s.content("audio").value for s in samples[:4]]
    assert torch.equal(again.embed(audio=values), model.embed(audio=values))
    assert again.complete(samples[:2], max_new_tokens=5) == model.complete(samples[:2], max_new_tokens=5)


def test_a_run_is_loaded_strictly(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    record = json.loads((copy / "spec.json").read_text())
    record["spec"]["model"]["trunk"]["depth"] = 5
    (copy / "spec.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match=r"trunk\.blocks\.4.*missing"):
        sm.load(copy)
    record["format"] = 99
    (copy / "spec.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="format 99, expected 1"):
        sm.load(copy)


def test_running_statistics_are_saved_and_loaded_strictly(run, samples, tmp_path):
    (tmp_path / "normed.py").write_text(NORMED)
    record = json.loads((run / "spec.json").read_text())
    stem = record["spec"]["model"]["encoders"]["image"]["stem"]
    record["spec"]["model"]["encoders"]["image"]["stem"] = stem | {"class": "normed:NormedStem"}
    place, code = tmp_path / "built", [tmp_path / "normed.py"]
    place.mkdir()
    (place / "spec.json").write_text(json.dumps(record))
    spec = read_spec(place, code)
    network = spec.build().model.build()
    mean = dict(network.named_buffers())["encoders.image.stem.norm.running_mean"]
    mean.copy_(torch.linspace(-1, 1, len(mean)))
    built = sm.Model(network.eval(), sm.load(run).modalities, spec)
    built.save_pretrained(place)
    again, value = sm.load(place, code=code), samples[0].content("image").value
    assert torch.equal(again.embed(image=value), built.embed(image=value))
    tensors = load_file(place / "model.safetensors")
    del tensors["encoders.image.stem.norm.running_var"]
    save_file(tensors, place / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"'encoders\.image\.stem\.norm\.running_var' is missing"):
        sm.load(place, code=code)


def test_a_spec_from_a_file_chooses_no_code(run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    record = json.loads((copy / "spec.json").read_text())
    record["spec"]["model"]["trunk"]["class"] = "os:system"
    (copy / "spec.json").write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="outside this package"):
        sm.load(copy)


def test_going_on_needs_the_same_settings_but_may_take_longer(world, run, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    quiet = Console(quiet=True)
    with pytest.raises(ConfigError, match=r"loading\.turns = None, now it is 1"):
        train(plan(world, copy, "loading.turns=1"), console=quiet)
    longer = Plan(**vars(plan(world, copy)) | {"duration": {"steps": 5}})
    outcome = train(longer, console=quiet)
    assert outcome.finished
    assert outcome.step == 5


def test_the_data_decides_modalities_and_sizes(run, model):
    assert set(model.modalities) == {"image", "audio", "video", "text"}  # no series in the world
    assert model.spec.model.encoders["text"].vocabulary == model.modalities["text"].vocabulary_size
    assert json.loads((run / "data.json").read_text())["sources"][0]["samples"] == 24


def test_embeddings_of_a_data_set(model, world, tmp_path):
    table = write_embeddings(model, str(world / "test.jsonl"), tmp_path / "e.parquet")
    assert table.width == 16
    assert table.count >= 36
    array = write_embeddings(model, str(world / "test.jsonl"), tmp_path / "e.npy", names=["image"])
    vectors = np.load(tmp_path / "e.npy")
    assert vectors.shape == (array.count, 16)
    assert len((tmp_path / "e.keys.txt").read_text().splitlines()) == array.count
    with pytest.raises(ConfigError, match="one modality"):
        write_embeddings(model, str(world / "test.jsonl"), tmp_path / "f.npy")
    with pytest.raises(ConfigError, match=r"\.parquet or \.npy"):
        write_embeddings(model, str(world / "test.jsonl"), tmp_path / "f.csv")


WORDS = [" ".join(["star", "red", "of", "seven", "blue"][: 1 + (7 * i) % 5]) * (1 + i % 3) for i in range(45)]


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
def test_values_come_back_in_their_order_whatever_they_are_batched_with(model, batch_size):
    """More of them than are sorted at a time, for small batches."""
    vectors, features = (
        model.embed(text=WORDS, batch_size=batch_size),
        model.features(text=WORDS, batch_size=batch_size),
    )
    for row, text in enumerate(WORDS):
        torch.testing.assert_close(vectors[row : row + 1], model.embed(text=text), atol=1e-5, rtol=0)
        (alone,) = model.features(text=text)
        torch.testing.assert_close(features[row], alone, atol=1e-4, rtol=0)


def test_values_of_similar_length_are_read_together(model, monkeypatch):
    """So that little is padding, where in the order given four in ten tokens are."""
    lengths = [len(features) for features in model.features(text=WORDS)]
    seen = []
    read = model.network.read
    monkeypatch.setattr(model.network, "read", lambda name, stream: seen.append(stream) or read(name, stream))
    model.features(text=WORDS, batch_size=9)
    assert [len(stream) for stream in seen] == [9] * 5

    def padded(batches: list[list[int]]) -> float:
        return 1 - sum(map(sum, batches)) / sum(len(lengths) * max(lengths) for lengths in batches)

    assert padded([stream.lengths.tolist() for stream in seen]) < 0.2
    assert padded([lengths[first : first + 9] for first in range(0, 45, 9)]) > 0.4


def test_use_draws_nothing_and_changes_nothing(model, samples):
    picture = next(part.value for part in samples[0].segments if part.modality == "image")
    before, weights = torch.get_rng_state(), {n: t.clone() for n, t in model.network.state_dict().items()}
    model.embed(image=[picture], batch_size=3)
    model.features(text=WORDS[:3])
    model.classify(["red", "blue"], image=picture)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.network.state_dict().items())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "found none"),
        ({"text": ["a"], "image": ["b"]}, r"found \['image', 'text'\]"),
        ({"text": []}, r"text=\[\] holds nothing"),
        ({"text": ["a"], "batch_size": 0}, "batch_size must be at least 1, found 0"),
    ],
)
def test_values_that_cannot_be_batched(model, given, said):
    with pytest.raises(ConfigError, match=said):
        model.embed(**given)
    with pytest.raises(ConfigError, match=said):
        model.features(**given)
