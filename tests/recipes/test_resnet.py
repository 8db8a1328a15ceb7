"""ResNet against transformers: read, computed, written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipes.parity import INITIALISATIONS, close, edited, opened, reference, rows, settings, written
from transformers import ConvNextImageProcessorPil, ResNetConfig, ResNetForImageClassification, ResNetModel

import sensorium as sm
from sensorium.core import CapabilityError, CheckpointError, ConfigError
from sensorium.public import open_public
from sensorium.recipes.clip import clip
from sensorium.recipes.dual import dual
from sensorium.recipes.resnet import SIZES, resnet

CASES: dict[str, dict[str, Any]] = {
    "basic": {"layer_type": "basic", "hidden_sizes": [8, 12, 16], "depths": [2, 1, 2]},
    "bottleneck": {"hidden_sizes": [16, 32, 48, 64], "depths": [2, 1, 2, 1], "hidden_act": "gelu"},
    "first": {"hidden_sizes": [8, 16], "depths": [1, 2], "downsample_in_first_stage": True,
              "downsample_in_bottleneck": True, "num_channels": 4},
}  # fmt: skip


def config(case: str, **more: Any) -> ResNetConfig:
    return ResNetConfig(embedding_size=8, **CASES[case], **more)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_parity(case: str, initialisation: str, tmp_path: Path):
    theirs = reference(ResNetModel, config(case), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, ResNetModel, tmp_path / "ours")
    pixels = torch.randn(2, theirs.config.num_channels, 33, 57, dtype=torch.float64)
    seen = ours.towers["image"](pixels.movedim(1, -1), torch.full((2,), 33))
    for model in (theirs, again):
        expected = model(pixels)
        close(seen.rows, rows(expected.last_hidden_state))
        close(seen.pooled, expected.pooler_output.flatten(1))
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("names", [["cat", "dog", "eel"], None])
@torch.no_grad()
def test_classes(names: list[str] | None, initialisation: str, tmp_path: Path):
    more = {"id2label": dict(enumerate(names))} if names else {}
    theirs = reference(ResNetForImageClassification, config("basic", **more), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, ResNetForImageClassification, tmp_path / "ours")
    pixels = torch.randn(2, 3, 40, 36, dtype=torch.float64)
    logits = ours.head(ours.towers["image"](pixels.movedim(1, -1), torch.full((2,), 40)).pooled)
    assert ours.labels == (names or ["LABEL_0", "LABEL_1"])
    assert again.config.id2label == theirs.config.id2label
    for model in (theirs, again):
        close(logits, model(pixels).logits)


def test_a_head_that_the_config_does_not_name_is_not_dropped_in_silence(tmp_path: Path):
    theirs = reference(ResNetForImageClassification, config("basic"), "random")
    theirs.save_pretrained(tmp_path)
    edited(tmp_path, architectures=["ResNetModel"])
    with pytest.raises(CheckpointError, match=r"2 tensors are not part of the model: 'classifier\.1\.bias'"):
        open_public(tmp_path)


def test_pictures_are_prepared_as_the_file_says(tmp_path: Path):
    theirs = reference(ResNetModel, config("basic"), "default")
    theirs.save_pretrained(tmp_path)
    processor = ConvNextImageProcessorPil(
        size={"shortest_edge": 40}, crop_pct=0.875, image_mean=[0.4, 0.5, 0.6], image_std=[0.2, 0.3, 0.4]
    )
    processor.save_pretrained(tmp_path)
    found = open_public(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (61, 90, 3), dtype=np.uint8)
    values = found.modalities["image"].prepare(picture)
    pixels = found.network.towers["image"].values(values).movedim(-1, 0)
    expected = processor(picture, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(pixels, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"layer_type": "wide"}, ConfigError, r"layer_type: expected one of 'basic', 'bottleneck', found 'wide'"),
        ({"depths": [1, 1]}, ConfigError, r"depths: 2 stages, but hidden_sizes has 3"),
        ({"hidden_act": "mish"}, ConfigError, r"no activation 'mish'"),
        ({"stem_width": 3}, ConfigError, r"config\.json: stem_width: unknown field"),
        ({"is_decoder": True}, CapabilityError, r"is_decoder: only False is supported"),
        ({"embedding_size": 12}, CheckpointError, r"embedder\.embedder\.convolution\.weight' has shape"),
        ({"architectures": ["ResNetForImageClassification"]}, CheckpointError, r"missing: "),
        ({"architectures": ["ResNetForImageClassification"], "id2label": {"1": "a"}}, ConfigError,
         r"id2label: expected the keys 0 to 0"),
    ],
)  # fmt: skip
def test_bad_configs(fields, error, says, tmp_path: Path):
    reference(ResNetModel, config("basic"), "default").save_pretrained(tmp_path)
    edited(tmp_path, **fields)
    with pytest.raises(error, match=says):
        open_public(tmp_path)


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str):
    with torch.device("meta"):
        ours, theirs = resnet(size).model.build(), ResNetModel(ResNetConfig(**SIZES[size]))
    assert sum(p.numel() for p in ours.parameters()) == theirs.num_parameters()
    with pytest.raises(ConfigError, match="resnet has no size"):
        resnet("7")


def test_it_can_be_loaded_used_and_paired(tmp_path: Path):
    known = config("basic", id2label={0: "a", 1: "b", 2: "c"})
    reference(ResNetForImageClassification, known, "random").float().save_pretrained(tmp_path / "theirs")
    model = sm.load(tmp_path / "theirs")
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 61, 90, 3), dtype=np.uint8))
    found = model.embed(image=pictures)
    assert found.shape == (3, 16)
    model.save_pretrained(tmp_path / "ours")
    assert torch.equal(sm.load(tmp_path / "ours").embed(image=pictures), found)
    words = clip("tiny")
    towers = {"image": resnet("tiny").model.tower, "text": words.model.towers["text"]}
    known = {"image": resnet("tiny").modalities["image"], "text": words.modalities["text"]}
    pair = dual(towers=towers, modalities=known, embedding=24)
    network = pair.model.build()
    assert network.projections["image"].project.weight.shape == (24, 32)
    assert network.towers["image"](torch.rand(2, 64, 64, 3), torch.full((2,), 64)).pooled.shape == (2, 32)
