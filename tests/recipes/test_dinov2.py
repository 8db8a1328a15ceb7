"""DINOv2, with and without registers, against transformers: read, computed, written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipes.parity import INITIALISATIONS, close, edited, opened, reference, settings, written
from torch import Tensor
from transformers import (
    BitImageProcessorPil,
    Dinov2Config,
    Dinov2ForImageClassification,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersForImageClassification,
    Dinov2WithRegistersModel,
)

import sensorium as sm
from sensorium.core import CapabilityError, CheckpointError, ConfigError
from sensorium.public import open_network
from sensorium.recipes.dinov2 import SIZES, dinov2
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors

BASE: dict[str, Any] = {
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "layerscale_value": 0.7,
}
KINDS = {
    "plain": (Dinov2Config, Dinov2Model, Dinov2ForImageClassification),
    "registers": (
        Dinov2WithRegistersConfig,
        Dinov2WithRegistersModel,
        Dinov2WithRegistersForImageClassification,
    ),
}
#: A remainder beside the patches; the gated feed-forward; a wide table.
CASES: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "square": ({"image_size": 43, "patch_size": 10, "mlp_ratio": 3, "hidden_act": "gelu_new"}, (43, 43)),
    "gated": ({"image_size": 40, "patch_size": 10, "use_swiglu_ffn": True, "qkv_bias": False}, (40, 40)),
    "other": ({"image_size": 48, "patch_size": 6, "num_channels": 4}, (30, 79)),
    "larger": ({"image_size": 24, "patch_size": 6, "layer_norm_eps": 1e-3}, (54, 30)),
}


def pixels(model: Any, *sides: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, model.config.num_channels, *sides, dtype=torch.float64, generator=generator)


def seen(ours: Any, values: Tensor, **more: Any) -> Any:
    return ours.towers["image"](values.movedim(1, -1), torch.full((len(values),), values.shape[2]), **more)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_parity(case: str, kind: str, initialisation: str, tmp_path: Path):
    config, cls, _ = KINDS[kind]
    changes, sides = CASES[case]
    theirs = reference(cls, config(**BASE, **changes), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, cls, tmp_path / "ours")
    values = pixels(theirs, *sides)
    found = seen(ours, values)
    grid = ours.towers["image"].embedding.grid(values.movedim(1, -1))
    masked = torch.rand(2, grid[0] * grid[1], generator=torch.Generator().manual_seed(3)) < 0.4
    hidden = seen(ours, values, masked=masked)
    for model in (theirs, again):
        expected = model(values)
        close(found.rows.unflatten(0, (2, -1)), expected.last_hidden_state)
        close(found.pooled, expected.pooler_output)
        close(hidden.pooled, model(values, bool_masked_pos=masked).pooler_output)
    whole = {"image_size": 40} if case == "square" else {}  # what is no whole patch is never seen
    assert settings(again.config) == settings(theirs.config) | whole


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_classes(kind: str, initialisation: str, tmp_path: Path):
    config, _, cls = KINDS[kind]
    known = config(**BASE, image_size=40, patch_size=10, id2label={0: "cat", 1: "dog", 2: "eel"})
    theirs = reference(cls, known, initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, cls, tmp_path / "ours")
    values = pixels(theirs, 50, 30)
    logits = ours.head(seen(ours, values).pooled)
    assert ours.labels == ["cat", "dog", "eel"]
    for model in (theirs, again):
        close(logits, model(values).logits)


@torch.no_grad()
def test_without_a_mask_token(tmp_path: Path):
    theirs = reference(Dinov2Model, Dinov2Config(**BASE, image_size=40, use_mask_token=False), "random")
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, Dinov2Model, tmp_path / "ours")
    values = pixels(theirs, 40, 40)
    close(seen(ours, values).pooled, again(values).pooler_output)


@pytest.mark.parametrize("gated", [True, False])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("headed", [True, False])
def test_names_of_version_5(headed: bool, kind: str, gated: bool, tmp_path: Path):
    """Those that a model has in memory, which are not those in the files that it writes."""
    config, *classes = KINDS[kind]
    theirs = reference(classes[headed], config(**BASE, image_size=40, use_swiglu_ffn=gated), "random")
    _, ours = opened(theirs, tmp_path)
    assert ("gate_proj" in "".join(theirs.state_dict())) == gated
    write_tensors(tmp_path, theirs.state_dict())
    _, again = open_network(Folder(tmp_path), torch.float64)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_layers_are_left_out_in_training(tmp_path: Path):
    theirs = reference(Dinov2Model, Dinov2Config(**BASE, image_size=28, drop_path_rate=0.5), "random")
    spec, ours = opened(theirs, tmp_path / "theirs")
    assert spec.model.tower.trunk.drop_path == 0.5
    torch.manual_seed(0)
    values = pixels(theirs, 28, 28)
    found = [seen(ours.train(), values).pooled for _ in range(4)]
    assert not all(torch.equal(found[0], one) for one in found)


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"mlp_ratio": "4"}, ConfigError, r"config\.json: mlp_ratio: expected float, found '4'"),
        ({"num_register_tokens": 4}, ConfigError, r"num_register_tokens: unknown field"),
        ({"mlp_ratio": 3}, CheckpointError, r"mlp\.fc1\.weight' has shape \[192, 48\], expected \[144, 48\]"),
        (
            {"use_mask_token": False},
            CheckpointError,
            r"1 tensor is not part of the model: 'embeddings\.mask_token'",
        ),
        ({"use_swiglu_ffn": True}, CheckpointError, r"missing: 'encoder\.layer\.0\.mlp\.weights_in"),
        ({"is_decoder": True}, CapabilityError, r"is_decoder: only False is supported"),
    ],
)
def test_bad_configs(fields, error, says, tmp_path: Path):
    reference(Dinov2Model, Dinov2Config(**BASE, image_size=28), "default").save_pretrained(tmp_path)
    edited(tmp_path, **fields)
    with pytest.raises(error, match=says):
        open_network(Folder(tmp_path))


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str):
    config, cls, _ = KINDS["registers" if "registers" in size else "plain"]
    fields = {name: value for name, value in SIZES[size].items() if name != "model_type"}
    with torch.device("meta"):
        ours, theirs = dinov2(size).model.build(), cls(config(**fields))
    assert sum(p.numel() for p in ours.parameters()) == theirs.num_parameters()
    with pytest.raises(ConfigError, match="dinov2 has no size"):
        dinov2("b16")


def test_from_pictures_to_vectors(tmp_path: Path):
    """By way of both packages' own preparation, which cuts out less than the model was trained on."""
    theirs = reference(Dinov2Model, Dinov2Config(**BASE, image_size=70, patch_size=10), "random").float()
    theirs.save_pretrained(tmp_path)
    processor = BitImageProcessorPil(
        size={"shortest_edge": 50}, crop_size={"height": 40, "width": 40}, image_mean=[0.4, 0.5, 0.6]
    )
    processor.save_pretrained(tmp_path)
    drawn = np.random.default_rng(0).integers(0, 256, (3, 61, 90, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = theirs(**processor(list(drawn), return_tensors="pt")).pooler_output
    expected = torch.nn.functional.normalize(expected, dim=-1)
    model = sm.load(tmp_path)
    torch.testing.assert_close(model.embed(image=list(drawn)), expected, atol=1e-5, rtol=0)
    model.save_pretrained(tmp_path / "ours")
    assert torch.equal(sm.load(tmp_path / "ours").embed(image=list(drawn)), model.embed(image=list(drawn)))
    assert Dinov2Config.from_pretrained(tmp_path / "ours").image_size == 70
