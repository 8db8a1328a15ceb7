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
from safetensors.torch import load_file
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessor, CLIPModel

import sensorium as sm
from sensorium import public
from sensorium.core import CapabilityError, CheckpointError, ConfigError
from sensorium.data.world import write_world
from sensorium.run import Plan, train
from sensorium.weights.write import write_tensors

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


def copied(checkpoint: Path, folder: Path, *but: str) -> Path:
    for file in checkpoint.iterdir():
        if file.name not in but:
            (folder / file.name).write_bytes(file.read_bytes())
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
    copied(checkpoint, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(error, match=said):
        sm.load(tmp_path)


def test_code_is_ignored_aloud(checkpoint, tmp_path):
    copied(checkpoint, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModel": "evil.Model"}}))
    with pytest.warns(UserWarning, match="never run"):
        sm.load(tmp_path)


def test_a_licence_is_said(checkpoint, tmp_path):
    copied(checkpoint, tmp_path)
    (tmp_path / "README.md").write_text("---\nlicense: cc-by-nc-4.0\n---\n")
    with pytest.warns(UserWarning, match="commercial"):
        sm.load(tmp_path)


def test_what_else_a_config_says_is_written_again(checkpoint, tmp_path):
    """In every section; what the model decides goes before what the file said."""
    copied(checkpoint, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"logit_scale_init_value": 3.5, "initializer_factor": 0.5}
    config["text_config"] |= {"bos_token_id": 7, "initializer_range": 0.25}
    config["vision_config"] |= {"projection_dim": 99}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = sm.load(tmp_path)
    assert model.spec.public["text_config"]["bos_token_id"] == 7
    assert "hidden_size" not in model.spec.public["text_config"]
    model.spec = model.spec.set("model.towers.text.trunk.block.attention.dropout", 0.25)
    model.save_pretrained(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "config.json").read_text())
    assert written["logit_scale_init_value"] == 3.5
    assert written["initializer_factor"] == 0.5
    assert written["text_config"]["bos_token_id"] == 7
    assert written["text_config"]["initializer_range"] == 0.25
    assert written["text_config"]["hidden_size"] == 32
    assert written["text_config"]["attention_dropout"] == 0.25
    assert written["vision_config"]["projection_dim"] == 99
    model.save_pretrained(tmp_path / "open_clip", layout="open_clip")  # whose config has no such fields
    assert "bos_token_id" not in (tmp_path / "open_clip" / "open_clip_config.json").read_text()


def test_fields_of_both_sides_are_merged_section_by_section():
    below = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": {"g": 4}, "h": 5}
    above = {"a": 10, "b": {"c": 20, "d": {"i": 30}}, "f": 40, "h": {"j": 50}}
    merged = {"a": 10, "b": {"c": 20, "d": {"e": 3, "i": 30}}, "f": 40, "h": {"j": 50}}
    assert public._merged(below, above) == merged


def test_of_two_layouts_in_one_folder_the_one_of_transformers_is_read(checkpoint, tmp_path):
    copied(checkpoint, tmp_path)
    model = sm.load(checkpoint)
    with torch.no_grad():
        model.network.similarity.log_scale.zero_()
    model.save_pretrained(tmp_path, layout="open_clip")
    assert sm.load(tmp_path).network.scale > 10
    (tmp_path / "config.json").unlink()
    assert sm.load(tmp_path).network.scale == 1
    model.save_pretrained(tmp_path / "own", layout="sensorium")
    with pytest.raises(ConfigError, match="holds a model in our own layout, which load prefers"):
        model.save_pretrained(tmp_path / "own", layout="transformers")


def test_our_own_layout_goes_before_a_public_one(checkpoint, tmp_path):
    copied(checkpoint, tmp_path)
    assert public.is_public(tmp_path)
    model = sm.load(checkpoint)
    with torch.no_grad():
        model.network.similarity.log_scale.zero_()
    model.save_pretrained(tmp_path, layout="sensorium")
    assert not public.is_public(tmp_path)
    assert sm.load(tmp_path).network.scale == 1


@pytest.mark.parametrize(
    ("name", "config", "error", "said"),
    [
        ("config.json", {}, CapabilityError, "model_type: no recipe reads a config without it"),
        ("config.json", {"model_type": "clipp"}, CapabilityError, r"reads 'clipp' \(did you mean 'clip'\?\)"),
        ("config.json", [], CheckpointError, "expected a JSON object"),
        ("config.json", {"model_type": 3}, ConfigError, "model_type: expected str, found 3"),
        (
            "open_clip_config.json",
            {"model_cfg": {"vision_cfg": {"timm_model_name": "x"}, "text_cfg": {}}},
            CapabilityError,
            r"no recipe reads what is described in open_clip_config\.json",
        ),
    ],
)
def test_a_config_that_no_recipe_reads(name, config, error, said, tmp_path):
    (tmp_path / name).write_text(json.dumps(config))
    with pytest.raises(error, match=said):
        sm.load(tmp_path)


Q, K = (f"text_model.encoder.layers.0.self_attn.{part}_proj" for part in "qk")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda held: held.pop("logit_scale"), "1 tensor is missing: 'logit_scale'"),
        (lambda held: held.update(extra=torch.zeros(1)), "1 tensor is not part of the model: 'extra'"),
        (
            lambda held: held.update({"logit_scale": torch.tensor(1, dtype=torch.int8)}),
            r"'logit_scale' holds torch\.int8, expected floating-point numbers",
        ),
        (
            lambda held: held.update({f"{Q}.weight": held[f"{K}.weight"][:16], f"{K}.weight": torch.zeros(48, 32)}),
            r"q_proj\.weight' has shape \[16, 32\], expected \[32, 32\]",
        ),
    ],
)  # fmt: skip
def test_wrong_tensors(change, said, checkpoint, tmp_path):
    copied(checkpoint, tmp_path)
    held = load_file(tmp_path / "model.safetensors")
    change(held)
    write_tensors(tmp_path, held)
    with pytest.raises(CheckpointError, match=said):
        sm.load(tmp_path)


def test_a_file_that_was_cut_short(checkpoint, tmp_path):
    copied(checkpoint, tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    for length in (0, 7, 200, len(whole) - 1):
        (tmp_path / "model.safetensors").write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"model\.safetensors"):
            sm.load(tmp_path)


def test_shards_and_legacy_files_are_read_as_well(checkpoint, pictures, tmp_path):
    expected = sm.load(checkpoint).embed(image=pictures)
    for kind in ("shards", "legacy"):
        (tmp_path / kind).mkdir()
        folder = copied(checkpoint, tmp_path / kind, "model.safetensors")
        held = load_file(checkpoint / "model.safetensors")
        if kind == "shards":
            assert len(write_tensors(folder, held, shard_bytes=20_000)) > 3
        else:
            torch.save(held, folder / "pytorch_model.bin")
        assert torch.equal(sm.load(folder).embed(image=pictures), expected)
