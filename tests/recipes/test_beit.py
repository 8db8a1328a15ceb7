"""BEiT against transformers: read, computed, predicted, written back, and trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipes.parity import INITIALISATIONS, close, edited, opened, reference, respelled, settings, written
from torch import Tensor
from transformers import (
    BeitConfig,
    BeitForImageClassification,
    BeitForMaskedImageModeling,
    BeitImageProcessorPil,
    BeitModel,
)

import sensorium as sm
from sensorium.core import CapabilityError, CheckpointError, ConfigError
from sensorium.core.batch import Batch, Stream
from sensorium.core.outputs import Outputs, TokenPrediction
from sensorium.nn.encoders.patch_masking import shares
from sensorium.objectives import MaskedTokens
from sensorium.public import open_network, open_public
from sensorium.recipes.beit import SIZES, beit, keys
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors

CASES: dict[str, dict[str, Any]] = {
    "relative": {"use_relative_position_bias": True, "use_mask_token": True},
    "shared": {"use_shared_relative_position_bias": True, "use_mask_token": True, "use_mean_pooling": False},
    "absolute": {"use_absolute_position_embeddings": True, "use_mask_token": True, "num_channels": 4},
    "both": {"use_relative_position_bias": True, "use_shared_relative_position_bias": True,
             "use_absolute_position_embeddings": True, "layer_scale_init_value": 0.0},
    "neither": {},
}  # fmt: skip


def config(case: str, **changes: Any) -> BeitConfig:
    """A tiny one with uneven sizes."""
    tiny = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 3,
            "image_size": 40, "patch_size": 10, "vocab_size": 99}  # fmt: skip
    return BeitConfig(**tiny | CASES[case] | changes)


def pictures(config: BeitConfig, height: int, width: int, count: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(count, config.num_channels, height, width, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_features(case: str, initialisation: str, tmp_path: Path):
    theirs = reference(BeitModel, config(case), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, BeitModel, tmp_path / "ours")
    for height, width in ((40, 40), (60, 30), (45, 49)):
        pixels = pictures(theirs.config, height, width)
        seen = ours.towers["image"](pixels.movedim(1, -1), torch.full((2,), height))
        for model in (theirs, again):
            expected = model(pixels, interpolate_pos_encoding=True)
            close(seen.rows.unflatten(0, (2, -1)), expected.last_hidden_state)
            close(seen.pooled, expected.pooler_output)
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("case", ["relative", "shared", "absolute"])
@torch.no_grad()
def test_masked_patches(case: str, initialisation: str, tmp_path: Path):
    theirs = reference(BeitForMaskedImageModeling, config(case), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, BeitForMaskedImageModeling, tmp_path / "ours")
    put_right(again, ours)
    for height, width in ((40, 40), (60, 30)):
        pixels = pictures(theirs.config, height, width)
        grid = (height // 10, width // 10)
        masked = ours.masking(torch.tensor([4, 5]), grid)
        words = torch.randint(0, 99, (int(masked.sum()),), generator=torch.Generator().manual_seed(1))
        logits = ours.logits(pixels.movedim(1, -1), masked)
        chosen = ours.logits(pixels.movedim(1, -1), masked, masked)
        found = TokenPrediction(chosen, words, masked.nonzero()[:, 0], shares(masked, torch.float64))
        total = MaskedTokens(stream="image").totals(Outputs(masked_tokens={"image": found}))
        for model in (theirs, again):
            expected = model(pixels, bool_masked_pos=masked, labels=words)
            close(logits, expected.logits.flatten(0, 1))
            close(total["masked/image"] / 2, expected.loss)
    assert settings(again.config) == settings(theirs.config)


def put_right(model: BeitForMaskedImageModeling, ours: Any) -> None:
    """Where a tower ends with a norm, transformers 5.23 takes it for that of the head, and that of the head for it,
    when it reads a file, its own included.
    """
    tower = model.beit.layernorm
    if isinstance(tower, torch.nn.LayerNorm) and torch.equal(tower.weight, ours.norm.weight):
        model.beit.layernorm, model.layernorm = model.layernorm, tower


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("case", ["relative", "shared"])
@torch.no_grad()
def test_classes(case: str, initialisation: str, tmp_path: Path):
    names = {0: "cat", 1: "dog", 2: "eel"}
    theirs = reference(BeitForImageClassification, config(case, id2label=names), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, BeitForImageClassification, tmp_path / "ours")
    pixels = pictures(theirs.config, 40, 40)
    logits = ours.head(ours.towers["image"](pixels.movedim(1, -1), torch.full((2,), 40)).pooled)
    assert ours.labels == ["cat", "dog", "eel"]
    assert again.config.id2label == theirs.config.id2label
    for model in (theirs, again):
        close(logits, model(pixels).logits)


@pytest.mark.parametrize("cls", [BeitModel, BeitForMaskedImageModeling])
@torch.no_grad()
def test_spellings(cls: type, tmp_path: Path):
    """As version 4 wrote them, with the index that it kept, as they are in memory, and with a prefix."""
    case = {"use_relative_position_bias": True, "use_shared_relative_position_bias": True}
    theirs = reference(cls, config("relative", **case), "random")
    spec, ours = opened(theirs, tmp_path)
    pixels = torch.randn(2, 40, 40, 3, dtype=torch.float64)
    expected = ours.towers["image"](pixels, torch.full((2,), 40)).rows
    names = keys(spec).save(dict(ours.state_dict()))
    prefix = "" if cls is BeitModel else "beit."
    table = "relative_position_bias.relative_position_bias_table"
    assert f"{prefix}encoder.layer.1.attention.attention.{table}" in names
    assert f"{prefix}encoder.{table}" in names
    assert f"{prefix}encoder.layer.0.attention.attention.query.bias" in names
    index = table.replace("bias_table", "index")
    old = {f"{prefix}encoder.layer.0.attention.attention.{index}": torch.zeros(17, 17).long()}
    memory = {name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}
    for tensors in (memory, names | old, names | {f"{prefix}encoder.{index}": torch.zeros(17, 17).long()}):
        write_tensors(tmp_path, tensors)
        _, network = open_network(Folder(tmp_path), torch.float64)
        close(network.eval().towers["image"](pixels, torch.full((2,), 40)).rows, expected)
    if cls is BeitModel:
        respelled(tmp_path, lambda name: f"beit.{name}")
        _, network = open_network(Folder(tmp_path), torch.float64)
        close(network.eval().towers["image"](pixels, torch.full((2,), 40)).rows, expected)


def stream(count: int = 3) -> Stream:
    """Pictures as bytes."""
    ones = torch.ones(count, dtype=torch.bool)
    numbers = torch.arange(count)
    drawn = torch.Generator().manual_seed(5)
    zeros = torch.zeros_like(numbers)
    return Stream(
        values=torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8, generator=drawn),
        lengths=torch.full((count,), 64),
        owner=numbers,
        order=zeros,
        ordinal=zeros,
        turn=zeros,
        content=ones,
        target=~ones,
        hidden=~ones,
        corrupt=ones,
        seed=numbers + 7,
    )


def test_batched_is_single_and_everything_learns():
    torch.manual_seed(0)
    spec = beit("tiny")
    network = spec.model.build()
    objective = spec.objectives["masked"].build()
    whole = Batch({"image": stream()}, ("a", "b", "c"), torch.arange(3))
    found = network(whole).masked_tokens["image"]
    assert objective.counts(whole) == {"masked/image": 3}
    assert found.logits.shape == (3 * 25, 512)
    assert torch.allclose(found.weight.sum(), torch.tensor(3.0))
    assert len(found.target.unique()) > 30
    for index in range(3):
        one = stream().select(torch.tensor([index]))
        alone = network(Batch({"image": one}, ("x",), torch.zeros(1).long())).masked_tokens["image"]
        assert torch.allclose(alone.logits, found.logits.unflatten(0, (3, -1))[index], atol=1e-5)
        assert torch.equal(alone.target, found.target.unflatten(0, (3, -1))[index])
    none = Batch({"image": stream().select(torch.zeros(3, dtype=torch.bool))}, (), torch.zeros(0).long())
    for batch in (whole, none):
        objective.totals(network(batch))["masked/image"].backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
        network.zero_grad(set_to_none=True)


def test_a_public_one_knows_no_words_to_learn(tmp_path: Path):
    theirs = reference(BeitForMaskedImageModeling, config("relative"), "random").float()
    theirs.save_pretrained(tmp_path)
    network = open_public(tmp_path).network
    with pytest.raises(CapabilityError, match="no targets"):
        network(Batch({"image": stream()}, ("a", "b", "c"), torch.arange(3)))
    with pytest.raises(CapabilityError, match="restores no hidden parts"):
        network.restore("image", Batch({"image": stream()}, ("a", "b", "c"), torch.arange(3)))


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str):
    given = {"use_mask_token": True, "use_shared_relative_position_bias": True} | SIZES[size]
    with torch.device("meta"):
        ours, theirs = beit(size).model.build(), BeitForMaskedImageModeling(BeitConfig(**given))
    assert sum(p.numel() for p in ours.parameters()) == theirs.num_parameters()
    with pytest.raises(ConfigError, match="beit has no size"):
        beit("7")


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"image_size": [40, 60]}, CapabilityError, r"image_size: only squares are supported"),
        ({"use_mask_token": False}, ConfigError, r"mask_token: hidden patches need it"),
        ({"hidden_dropout_prob": 0.1}, CapabilityError, r"hidden_dropout_prob: only 0.0 is supported"),
        ({"mask_colour": 3}, ConfigError, r"mask_colour: unknown field"),
        ({"vocab_size": 36}, CheckpointError, r"'lm_head\.weight' has shape \[99, 48\], expected \[36, 48\]"),
        ({"use_relative_position_bias": False}, CheckpointError, r"not part of the model: .*position_bias"),
        ({"architectures": ["BeitForSemanticSegmentation"]}, CapabilityError, r"architectures: expected one"),
    ],
)
def test_bad_configs(fields, error, says, tmp_path: Path):
    reference(BeitForMaskedImageModeling, config("relative"), "default").save_pretrained(tmp_path)
    edited(tmp_path, **fields)
    with pytest.raises(error, match=says):
        open_public(tmp_path)


def test_it_can_be_loaded_and_used(tmp_path: Path):
    known = config("relative", id2label={0: "a", 1: "b", 2: "c"})
    reference(BeitForImageClassification, known, "random").float().save_pretrained(tmp_path / "theirs")
    BeitImageProcessorPil(size={"height": 40, "width": 40}).save_pretrained(tmp_path / "theirs")
    model = sm.load(tmp_path / "theirs")
    given = list(np.random.default_rng(0).integers(0, 256, (3, 61, 90, 3), dtype=np.uint8))
    found = model.classify(image=given)
    assert found.shape == (3, 3)
    model.save_pretrained(tmp_path / "ours")
    assert torch.equal(sm.load(tmp_path / "ours").classify(image=given), found)
