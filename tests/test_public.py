"""A public checkpoint as a user holds it: opened, used, trained further, written, and opened by transformers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from modalities import layouts
from PIL import Image
from rich.console import Console
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel

import sensorium as sm
from sensorium.core import CapabilityError, CheckpointError, ConfigError
from sensorium.data.world import write_world
from sensorium.run import Plan, train

TEXTS = ["a red circle", "two green stars on the left of a small blue square", "x"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A tiny CLIP with everything that a hub repository of one has."""
    folder = tmp_path_factory.mktemp("clip")
    layouts.clip(folder)
    ids = json.loads((folder / "vocab.json").read_text())
    vision = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 32, "patch_size": 8}  # fmt: skip
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
            "max_position_embeddings": 32, "vocab_size": len(ids), "bos_token_id": ids["<|startoftext|>"],
            "eos_token_id": ids["<|endoftext|>"], "pad_token_id": ids["<|endoftext|>"]}  # fmt: skip
    torch.manual_seed(0)
    CLIPModel(CLIPConfig(vision_config=vision, text_config=text, projection_dim=16)).save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=32).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    drawn = np.random.default_rng(0)
    return [drawn.integers(0, 256, size, dtype=np.uint8) for size in ((40, 50, 3), (70, 33, 3), (32, 32, 3))]


def theirs(folder: Path, pictures: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings by transformers."""
    model = CLIPModel.from_pretrained(folder).eval()
    prepared = CLIPImageProcessor.from_pretrained(folder)(
        [Image.fromarray(picture) for picture in pictures], return_tensors="pt"
    )
    tokens = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        found = model(**tokens, **prepared)
    return found.image_embeds, found.text_embeds


def test_same_numbers(checkpoint, pictures):
    model = sm.load(checkpoint)
    image, text = theirs(checkpoint, pictures)
    assert torch.allclose(model.embed(image=pictures), image, atol=1e-5)
    assert torch.allclose(model.embed(text=TEXTS), text, atol=1e-5)
    assert torch.allclose(model.embed(text=TEXTS, batch_size=1), text, atol=1e-5)
    found = model.classify(["red", "green"], ["a {}", "one {} thing"], image=pictures)
    assert torch.allclose(found.sum(1), torch.ones(3))
    assert [len(features) for features in model.features(image=pictures)] == [17, 17, 17]


@pytest.mark.parametrize("layout", ["transformers", "open_clip", "sensorium"])
def test_written_and_read_again(layout, checkpoint, pictures, tmp_path):
    model = sm.load(checkpoint)
    model.save_pretrained(tmp_path, layout=layout)
    again = sm.load(tmp_path)
    assert torch.equal(again.embed(image=pictures), model.embed(image=pictures))
    assert torch.equal(again.embed(text=TEXTS), model.embed(text=TEXTS))
    if layout == "transformers":
        image, text = theirs(tmp_path, pictures)
        assert torch.allclose(model.embed(image=pictures), image, atol=1e-5)
        assert torch.allclose(model.embed(text=TEXTS), text, atol=1e-5)


def test_it_does_not_write(checkpoint, pictures):
    model = sm.load(checkpoint)
    with pytest.raises(CapabilityError, match="does not write"):
        model.generate("what is it?", image=pictures[0])
    with pytest.raises(CapabilityError, match="layout"):
        model.save_pretrained("nowhere", layout="onnx")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("world") / "w"
    write_world(
        place, 24, test_samples=12, compositional_samples=0, validation_samples=8, clips=0.0, workers=1
    )
    return place


def plan(recipe: str, world: Path, out: Path, *more: str, **also) -> Plan:
    return Plan(recipe, [str(world / "train.jsonl")], out, ("loading.batch=8", *more), {"steps": 3}, **also)


def trained(plan: Plan) -> sm.Model:
    assert train(plan, console=Console(quiet=True)).finished
    return sm.load(plan.out)


def test_trained_further(checkpoint, world, pictures, tmp_path):
    model = trained(plan(str(checkpoint), world, tmp_path / "run", "optimizer.lr=1e-3"))
    before = sm.load(checkpoint)
    assert not torch.equal(model.embed(image=pictures), before.embed(image=pictures))
    model.save_pretrained(tmp_path / "public")
    image, text = theirs(tmp_path / "public", pictures)
    assert torch.allclose(model.embed(image=pictures), image, atol=1e-5)
    assert torch.allclose(model.embed(text=TEXTS), text, atol=1e-5)


def test_without_training_it_is_the_checkpoint(checkpoint, world, pictures, tmp_path):
    model = trained(plan(str(checkpoint), world, tmp_path / "run", "optimizer.lr=0"))
    before = sm.load(checkpoint)
    assert torch.equal(model.embed(image=pictures), before.embed(image=pictures))
    assert torch.equal(model.embed(text=TEXTS), before.embed(text=TEXTS))


def test_paired_and_locked(checkpoint, world, pictures, tmp_path):
    towers = {"image": str(checkpoint), "text": str(checkpoint)}
    model = trained(plan("dual", world, tmp_path / "run", towers=towers, lock=(r"^towers\.image",)))
    before = sm.load(checkpoint)
    pairs = zip(model.features(image=pictures), before.features(image=pictures), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    pairs = zip(model.features(text=TEXTS), before.features(text=TEXTS), strict=True)
    assert not any(torch.equal(one, other) for one, other in pairs)


def test_from_nothing(world, pictures, tmp_path):
    model = trained(plan("clip:tiny", world, tmp_path / "run"))
    assert model.embed(image=pictures).shape == (3, 64)
    with pytest.raises(CapabilityError, match="no transformers layout"):
        model.save_pretrained(tmp_path / "public", layout="transformers")
    model.save_pretrained(tmp_path / "own")
    assert torch.equal(sm.load(tmp_path / "own").embed(text=TEXTS), model.embed(text=TEXTS))


@pytest.mark.parametrize("recipe", ["mae:tiny", "beit:tiny"])
def test_from_pictures_alone(recipe, world, pictures, tmp_path):
    """Trained from nothing, saved in the public layout, and read again."""
    model = trained(plan(recipe, world, tmp_path / "run"))
    found = model.embed(image=pictures)
    assert found.shape == (3, 64)
    model.save_pretrained(tmp_path / "public")
    assert torch.equal(sm.load(tmp_path / "public").embed(image=pictures), found)
    if recipe == "mae:tiny":
        assert model.reconstruct(image=pictures)[0].restored.shape == (64, 64, 3)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"model_type": "clap_my_hands"}, CapabilityError, "clap_my_hands"),
        ({"colour": 3}, ConfigError, "colour"),
        (
            {"projection_dim": 17},
            CheckpointError,
            r"visual_projection.weight.* \[16, 32\], expected \[17, 32\]",
        ),
        ({"projection_dim": 0}, ConfigError, "projection_dim"),
        ({"auto_map": {"AutoModel": "evil.Model"}, "model_type": "evil"}, CapabilityError, "auto_map"),
    ],
)
def test_a_wrong_config(change, error, said, checkpoint, tmp_path):
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(error, match=said):
        sm.load(tmp_path)


def test_code_is_ignored_aloud(checkpoint, tmp_path):
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.warns(UserWarning, match="never run"):
        sm.load(tmp_path)


def test_a_licence_is_said(checkpoint, tmp_path):
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    with pytest.warns(UserWarning, match="commercial"):
        sm.load(tmp_path)
