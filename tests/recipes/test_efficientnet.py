"""EfficientNet against transformers: read, computed, written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipes.parity import INITIALISATIONS, close, edited, opened, reference, rows, settings, written
from transformers import (
    EfficientNetConfig,
    EfficientNetForImageClassification,
    EfficientNetImageProcessorPil,
    EfficientNetModel,
)

from sensorium.core import CapabilityError, CheckpointError, ConfigError
from sensorium.public import open_public
from sensorium.recipes.efficientnet import SIZES, efficientnet

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "even": {"depthwise_padding": [2], "hidden_act": "relu", "squeeze_expansion_ratio": 0.1},
    "odd": {"width_coefficient": 0.31, "hidden_dim": 396, "depth_divisor": 4, "batch_norm_eps": 1e-2},
}


def config(case: str, **more: Any) -> EfficientNetConfig:
    sizes = {
        "width_coefficient": 0.25, "depth_coefficient": 1.3, "kernel_sizes": [3, 5, 3], "in_channels": [32, 16, 24],
        "out_channels": [16, 24, 40], "strides": [1, 2, 2], "num_block_repeats": [1, 2, 1], "hidden_dim": 320,
        "expand_ratios": [1, 6, 4], "depthwise_padding": [], "image_size": 48,
    }  # fmt: skip
    return EfficientNetConfig(**sizes | CASES[case] | more)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_parity(case: str, initialisation: str, tmp_path: Path):
    theirs = reference(EfficientNetModel, config(case), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, EfficientNetModel, tmp_path / "ours")
    pixels = torch.randn(2, 3, 33, 57, dtype=torch.float64)
    seen = ours.towers["image"](pixels.movedim(1, -1), torch.full((2,), 33))
    for model in (theirs, again):
        expected = model(pixels)
        close(seen.rows, rows(expected.last_hidden_state))
        close(seen.pooled, expected.pooler_output)
    assert settings(again.config) == settings(theirs.config) | {"dropout_rate": 0.0}
    assert ours.towers["image"].stem.norm.momentum == pytest.approx(0.01)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@torch.no_grad()
def test_classes(initialisation: str, tmp_path: Path):
    known = config(
        "even", id2label={0: "a", 1: "b", 2: "c"}, label2id={"a": 0, "b": 1, "c": 2}, dropout_rate=0.3
    )
    theirs = reference(EfficientNetForImageClassification, known, initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, EfficientNetForImageClassification, tmp_path / "ours")
    pixels = torch.randn(2, 3, 40, 36, dtype=torch.float64)
    logits = ours.head(ours.towers["image"](pixels.movedim(1, -1), torch.full((2,), 40)).pooled)
    assert ours.labels == ["a", "b", "c"]
    assert settings(again.config) == settings(theirs.config)
    for model in (theirs, again):
        close(logits, model(pixels).logits)


@pytest.mark.parametrize(
    "more", [{}, {"include_top": False}, {"rescale_offset": True, "rescale_factor": 1 / 127.5}]
)
def test_pictures_are_prepared_as_the_file_says(more, tmp_path: Path):
    reference(EfficientNetModel, config("plain"), "default").save_pretrained(tmp_path)
    processor = EfficientNetImageProcessorPil(
        size={"height": 40, "width": 36},
        resample=0,
        image_mean=[0.4, 0.5, 0.6],
        image_std=[0.2, 0.3, 0.4],
        **more,
    )
    processor.save_pretrained(tmp_path)
    found = open_public(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (61, 90, 3), dtype=np.uint8)
    values = found.modalities["image"].prepare(picture)
    pixels = found.network.towers["image"].values(values).movedim(-1, 0)
    expected = processor(picture, return_tensors="pt")["pixel_values"][0]
    torch.testing.assert_close(pixels, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"hidden_dim": 321}, ConfigError, r"hidden_dim: expected one of 320, found 321"),
        ({"pooling_type": "max"}, CapabilityError, r"pooling_type: only 'mean' is supported"),
        ({"in_channels": [32, 16, 16]}, ConfigError, r"in_channels: expected \[32, 16, 24\]"),
        ({"strides": [1, 2]}, ConfigError, r"out_channels: 3 stages, but stride is given for 2"),
        ({"kernel_sizes": [3, 4, 3]}, ConfigError, r"a kernel must be odd, found 4"),
        ({"expand_ratios": [1, 6, 6]}, CheckpointError, r"has shape"),
        ({"num_block_repeats": [1, 2, 2]}, CheckpointError, r"missing: "),
        ({"width": 3}, ConfigError, r"config\.json: width: unknown field"),
    ],
)
def test_bad_configs(fields, error, says, tmp_path: Path):
    reference(EfficientNetModel, config("plain"), "default").save_pretrained(tmp_path)
    edited(tmp_path, **fields)
    with pytest.raises(error, match=says):
        open_public(tmp_path)


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str):
    wider, deeper, side, _ = SIZES[size]
    spec = efficientnet(size)
    with torch.device("meta"):
        ours = spec.model.build()
        known = EfficientNetConfig(
            width_coefficient=wider, depth_coefficient=deeper, hidden_dim=ours.towers["image"].width
        )
        theirs = EfficientNetModel(known)
    assert sum(p.numel() for p in ours.parameters()) == theirs.num_parameters()
    assert spec.modalities["image"].build().blank().shape == (side, side, 3)
    with pytest.raises(ConfigError, match="efficientnet has no size"):
        efficientnet("b9")
