"""BiT against transformers: read, computed, written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipes.parity import INITIALISATIONS, close, edited, opened, reference, rows, settings, written
from transformers import BitConfig, BitForImageClassification, BitImageProcessorPil, BitModel

from sensorium.core import CapabilityError, CheckpointError, ConfigError
from sensorium.public import open_public
from sensorium.recipes.bit import SIZES, bit

CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "same": {"global_padding": "same", "embedding_dynamic_padding": True, "drop_path_rate": 0.2},
    "post": {"layer_type": "bottleneck", "hidden_act": "gelu", "output_stride": 8},
    "wide": {"layer_type": "bottleneck", "width_factor": 2, "global_padding": "SAME"},
}


def config(case: str, **more: Any) -> BitConfig:
    sizes = {"embedding_size": 16, "hidden_sizes": [32, 64, 48], "depths": [2, 1, 2], "num_groups": 4}
    return BitConfig(**sizes, **CASES[case], **more)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_parity(case: str, initialisation: str, tmp_path: Path):
    theirs = reference(BitModel, config(case), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, BitModel, tmp_path / "ours")
    pixels = torch.randn(2, 3, 33, 57, dtype=torch.float64)
    seen = ours.towers["image"](pixels.movedim(1, -1), torch.full((2,), 33))
    for model in (theirs, again):
        expected = model(pixels)
        close(seen.rows, rows(expected.last_hidden_state))
        close(seen.pooled, expected.pooler_output.flatten(1))
    written_sizes = {"hidden_sizes": [64, 128, 96], "width_factor": 1} if case == "wide" else {}
    assert settings(again.config) == settings(theirs.config) | written_sizes


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@torch.no_grad()
def test_classes(initialisation: str, tmp_path: Path):
    theirs = reference(BitForImageClassification, config("same", num_labels=7), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, BitForImageClassification, tmp_path / "ours")
    pixels = torch.randn(2, 3, 40, 36, dtype=torch.float64)
    logits = ours.head(ours.towers["image"](pixels.movedim(1, -1), torch.full((2,), 40)).pooled)
    assert ours.labels == [f"LABEL_{index}" for index in range(7)]
    for model in (theirs, again):
        close(logits, model(pixels).logits)


def test_pictures_are_prepared_as_the_file_says(tmp_path: Path):
    reference(BitModel, config("plain"), "default").save_pretrained(tmp_path)
    processor = BitImageProcessorPil(
        size={"shortest_edge": 48},
        crop_size={"height": 40, "width": 36},
        resample=2,
        image_mean=[0.4, 0.5, 0.6],
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
        ({"global_padding": "VALID"}, CapabilityError, r"global_padding: only None or 'same' or 'SAME'"),
        ({"depths": [1, 1]}, ConfigError, r"depths: 2 stages, but hidden_sizes has 3"),
        ({"num_groups": 5}, ConfigError, r"16 channels cannot be divided into 5 groups"),
        ({"depths": [2, 1, 3]}, CheckpointError, r"missing: "),
        ({"groups": 3}, ConfigError, r"config\.json: groups: unknown field"),
    ],
)
def test_bad_configs(fields, error, says, tmp_path: Path):
    reference(BitModel, config("plain"), "default").save_pretrained(tmp_path)
    edited(tmp_path, **fields)
    with pytest.raises(error, match=says):
        open_public(tmp_path)


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str):
    with torch.device("meta"):
        ours, theirs = bit(size).model.build(), BitModel(BitConfig(**SIZES[size]))
    assert sum(p.numel() for p in ours.parameters()) == theirs.num_parameters()
    with pytest.raises(ConfigError, match="bit has no size"):
        bit("7")
