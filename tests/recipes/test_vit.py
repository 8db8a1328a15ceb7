"""ViT against transformers: read, computed, written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipes.parity import (
    INITIALISATIONS,
    close,
    edited,
    opened,
    randomise,
    reference,
    settings,
    written,
)
from torch import Tensor
from transformers import (
    ViTConfig,
    ViTForImageClassification,
    ViTForMaskedImageModeling,
    ViTImageProcessorPil,
    ViTModel,
)

import sensorium as sm
from sensorium.core import CheckpointError, ConfigError
from sensorium.public import open_network
from sensorium.recipes.vit import SIZES, vit
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors

BASE: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
}
#: A remainder beside the patches; a wide picture; patches that are not square.
CASES: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {
    "square": (
        {"image_size": 43, "patch_size": 10, "pooler_output_size": 20, "pooler_act": "gelu"},
        (43, 43),
    ),
    "wide": ({"image_size": [24, 40], "patch_size": 8, "qkv_bias": False, "num_channels": 4}, (24, 40)),
    "oblong": ({"image_size": [24, 40], "patch_size": [6, 10], "hidden_act": "gelu_new"}, (24, 40)),
}


def pixels(model: Any, *sides: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(2, model.config.num_channels, *sides, dtype=torch.float64, generator=generator)


def seen(ours: Any, values: Tensor) -> Any:
    return ours.towers["image"](values.movedim(1, -1), torch.full((len(values),), values.shape[2]))


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_parity(case: str, initialisation: str, tmp_path: Path):
    changes, sides = CASES[case]
    theirs = reference(ViTModel, ViTConfig(**BASE, **changes), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, ViTModel, tmp_path / "ours")
    values = pixels(theirs, *sides)
    found = seen(ours, values)
    for model in (theirs, again):
        expected = model(values)
        close(found.rows.unflatten(0, (2, -1)), expected.last_hidden_state)
        close(found.pooled, expected.pooler_output)
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("sides", [(50, 75), (20, 40), (80, 20)])
@torch.no_grad()
def test_pictures_of_other_sizes(sides: tuple[int, int], initialisation: str, tmp_path: Path):
    theirs = reference(ViTModel, ViTConfig(**BASE, image_size=40, patch_size=10), initialisation)
    _, ours = opened(theirs, tmp_path)
    values = pixels(theirs, *sides)
    close(seen(ours, values).pooled, theirs(values, interpolate_pos_encoding=True).pooler_output)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("names", [["cat", "dog", "eel"], None])
@torch.no_grad()
def test_classes(names: list[str] | None, initialisation: str, tmp_path: Path):
    more = {"id2label": dict(enumerate(names))} if names else {}
    config = ViTConfig(**BASE, image_size=40, patch_size=10, **more)
    theirs = reference(ViTForImageClassification, config, initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, ViTForImageClassification, tmp_path / "ours")
    values = pixels(theirs, 40, 40)
    logits = ours.head(seen(ours, values).pooled)
    assert ours.labels == (names or ["LABEL_0", "LABEL_1"])
    assert again.config.id2label == theirs.config.id2label
    for model in (theirs, again):
        close(logits, model(values).logits)


@torch.no_grad()
def test_a_tower_without_a_pooler(tmp_path: Path):
    config = ViTConfig(**BASE, image_size=40, patch_size=10)
    config._attn_implementation = "sdpa"
    theirs = ViTModel(config, add_pooling_layer=False).double().eval()
    randomise(theirs)
    spec, ours = opened(theirs, tmp_path / "theirs")
    values = pixels(theirs, 40, 40)
    close(seen(ours, values).pooled, theirs(values).last_hidden_state[:, 0])
    assert spec.model.tower.pool.dense is False


@torch.no_grad()
def test_the_tower_of_masked_pictures(tmp_path: Path):
    config = ViTConfig(**BASE, image_size=40, patch_size=8, encoder_stride=8)
    theirs = reference(ViTForMaskedImageModeling, config, "random")
    spec, ours = opened(theirs, tmp_path / "theirs")
    values = pixels(theirs, 40, 40)
    close(seen(ours, values).rows.unflatten(0, (2, -1)), theirs.vit(values).last_hidden_state)
    assert "mask_token" not in "".join(ours.state_dict())
    assert spec.public == {"initializer_range": 0.02, "encoder_stride": 8, "pooler_act": "tanh"} | {
        "pooler_output_size": 48
    }


@pytest.mark.parametrize("cls", [ViTModel, ViTForImageClassification])
def test_names_of_version_5(cls, tmp_path: Path):
    """Those that a model has in memory, which are not those in the files that it writes."""
    theirs = reference(cls, ViTConfig(**BASE, image_size=40, patch_size=10), "random")
    _, ours = opened(theirs, tmp_path)
    assert "q_proj" in "".join(theirs.state_dict())
    write_tensors(tmp_path, theirs.state_dict())
    _, again = open_network(Folder(tmp_path), torch.float64)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"image_size": [40, 40, 3]}, ConfigError, r"config\.json: image_size: expected one number or two"),
        ({"hidden_act": "mish"}, ConfigError, r"no activation 'mish'"),
        ({"layers": 3}, ConfigError, r"config\.json: layers: unknown field"),
        ({"pooler_output_size": 9}, CheckpointError, r"dense\.weight' has shape \[48, 48\], expected \[9, 48\]"),
        ({"image_size": 50}, CheckpointError, r"position_embeddings' has shape \[1, 17, 48\], expected \[1, 26, 48\]"),
        ({"num_hidden_layers": 1}, CheckpointError, r"tensors are not part of the model: 'encoder\.layer\.1\."),
        ({"architectures": ["ViTForImageClassification"]}, CheckpointError, r"missing: "),
    ],
)  # fmt: skip
def test_bad_configs(fields, error, says, tmp_path: Path):
    theirs = reference(ViTModel, ViTConfig(**BASE, image_size=40, patch_size=10), "default")
    theirs.save_pretrained(tmp_path)
    edited(tmp_path, **fields)
    with pytest.raises(error, match=says):
        open_network(Folder(tmp_path))


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str):
    with torch.device("meta"):
        ours = vit(size).model.build()
        theirs = ViTModel(ViTConfig(**SIZES[size]), add_pooling_layer=False)
    assert sum(p.numel() for p in ours.parameters()) == theirs.num_parameters()
    with pytest.raises(ConfigError, match="vit has no size"):
        vit("b17")


@pytest.mark.parametrize("pictures", [True, False])
def test_from_pictures_to_classes(pictures: bool, tmp_path: Path):
    """By way of both packages' own preparation; without a file that says how, as large as the model's."""
    known = ViTConfig(**BASE, image_size=40, patch_size=10, id2label={0: "a", 1: "b", 2: "c"})
    theirs = reference(ViTForImageClassification, known, "random").float()
    theirs.save_pretrained(tmp_path)
    processor = ViTImageProcessorPil(size={"height": 40, "width": 40})
    if pictures:
        processor = ViTImageProcessorPil(
            size={"height": 40, "width": 40}, image_mean=[0.1, 0.2, 0.3], resample=3
        )
        processor.save_pretrained(tmp_path)
    drawn = np.random.default_rng(0).integers(0, 256, (3, 61, 90, 3), dtype=np.uint8)
    with torch.no_grad():
        expected = theirs(**processor(list(drawn), return_tensors="pt")).logits.softmax(1)
    model = sm.load(tmp_path)
    torch.testing.assert_close(model.classify(image=list(drawn)), expected, atol=1e-5, rtol=0)
    model.save_pretrained(tmp_path / "ours")
    torch.testing.assert_close(
        sm.load(tmp_path / "ours").classify(image=list(drawn)), expected, atol=1e-5, rtol=0
    )
