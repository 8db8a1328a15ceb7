"""VideoMAE against transformers: read, computed, restored, written back, and trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipes.parity import INITIALISATIONS, close, edited, opened, reference, respelled, settings, written
from torch import Tensor
from transformers import (
    VideoMAEConfig,
    VideoMAEForPreTraining,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessor,
    VideoMAEModel,
)

import sensorium as sm
from sensorium.core import CapabilityError, CheckpointError, ConfigError
from sensorium.core.batch import Batch, Stream
from sensorium.core.outputs import Outputs
from sensorium.objectives import MaskedPatches
from sensorium.public import open_network, open_public
from sensorium.recipes.videomae import SIZES, keys, videomae
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors


def config(**changes: Any) -> VideoMAEConfig:
    """A tiny one with uneven sizes."""
    tiny = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 3,
            "image_size": [40, 30], "patch_size": 10, "num_frames": 6, "tubelet_size": 3,
            "decoder_hidden_size": 24, "decoder_intermediate_size": 40, "decoder_num_hidden_layers": 2,
            "decoder_num_attention_heads": 6}  # fmt: skip
    return VideoMAEConfig(**tiny | changes)


def films(given: VideoMAEConfig, count: int = 2) -> Tensor:
    """Frames [n, t, h, w, c]."""
    size = (given.num_frames, *given.image_size, given.num_channels)
    return torch.randn(count, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def loss(found: Any, count: int) -> Tensor:
    """Of predictions for so many films, as training sums it up."""
    return MaskedPatches().totals(Outputs(masked_patches={"video": found}))["masked/video"] / count


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize(
    "changes",
    [{}, {"norm_pix_loss": False, "use_mean_pooling": False}, {"num_channels": 4, "qv_bias": False}],
)
@torch.no_grad()
def test_restoring(changes: dict[str, Any], initialisation: str, tmp_path: Path):
    theirs = reference(VideoMAEForPreTraining, config(**changes), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, VideoMAEForPreTraining, tmp_path / "ours")
    values = films(theirs.config)
    for masked in (
        ours.masking(torch.tensor([4, 5]), (2, 4, 3)),
        torch.rand(2, 24, generator=torch.Generator().manual_seed(1)).argsort(1) < 13,
    ):
        found = ours.predict(values, masked)
        for model in (theirs, again):
            expected = model(values.movedim(-1, 2), bool_masked_pos=masked)
            close(found.values, expected.logits.flatten(0, 1))
            close(loss(found, 2), expected.loss)
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("mean", [False, True])
@torch.no_grad()
def test_features(mean: bool, initialisation: str, tmp_path: Path):
    theirs = reference(VideoMAEModel, config(use_mean_pooling=mean), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, VideoMAEModel, tmp_path / "ours")
    values = films(theirs.config)
    seen = ours.towers["video"](values, torch.full((2,), 6)).rows
    masked = torch.rand(2, 24, generator=torch.Generator().manual_seed(1)).argsort(1) < 13
    visible = ours.towers["video"].visible(values, masked).rows
    for model in (theirs, again):
        close(seen, model(values.movedim(-1, 2)).last_hidden_state.flatten(0, 1))
        part = model(values.movedim(-1, 2), bool_masked_pos=masked)
        close(visible, part.last_hidden_state.flatten(0, 1))
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("mean", [False, True])
@torch.no_grad()
def test_classes(mean: bool, initialisation: str, tmp_path: Path):
    names = {"id2label": {0: "walk", 1: "run", 2: "sit"}, "label2id": {"walk": 0, "run": 1, "sit": 2}}
    given = config(use_mean_pooling=mean, **names)
    theirs = reference(VideoMAEForVideoClassification, given, initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, VideoMAEForVideoClassification, tmp_path / "ours")
    values = films(theirs.config)
    logits = ours.head(ours.towers["video"](values, torch.full((2,), 6)).pooled)
    assert ours.labels == ["walk", "run", "sit"]
    for model in (theirs, again):
        close(logits, model(values.movedim(-1, 2)).logits)
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("cls", [VideoMAEModel, VideoMAEForPreTraining])
@torch.no_grad()
def test_spellings(cls: type, tmp_path: Path):
    """As version 4 wrote them, as they are in memory, and with a prefix."""
    theirs = reference(cls, config(), "random")
    spec, ours = opened(theirs, tmp_path)
    values = films(theirs.config)
    expected = ours.towers["video"](values, torch.full((2,), 6)).rows
    prefix = "" if cls is VideoMAEModel else "videomae."
    names = keys(spec).save(dict(ours.state_dict()))
    assert f"{prefix}encoder.layer.0.attention.attention.q_bias" in names
    memory = {name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}
    assert f"{prefix}encoder.layer.0.attention.attention.query.bias" in memory
    for tensors in (memory, names):
        write_tensors(tmp_path, tensors)
        _, network = open_network(Folder(tmp_path), torch.float64)
        close(network.eval().towers["video"](values, torch.full((2,), 6)).rows, expected)
    if cls is VideoMAEModel:
        respelled(tmp_path, lambda name: f"videomae.{name}")
        _, network = open_network(Folder(tmp_path), torch.float64)
        close(network.eval().towers["video"](values, torch.full((2,), 6)).rows, expected)


def stream(count: int = 3) -> Stream:
    """Films as bytes."""
    ones = torch.ones(count, dtype=torch.bool)
    numbers = torch.arange(count)
    zeros = torch.zeros_like(numbers)
    drawn = torch.Generator().manual_seed(5)
    return Stream(
        values=torch.randint(0, 256, (count, 8, 32, 32, 3), dtype=torch.uint8, generator=drawn),
        lengths=torch.full((count,), 8),
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
    network = videomae("tiny").model.build()
    whole = Batch({"video": stream()}, ("a", "b", "c"), torch.arange(3))
    found = network(whole).masked_patches["video"]
    assert MaskedPatches().counts(whole) == {"masked/video": 3}
    assert found.values.shape == (3 * 4 * 14, 384)
    for index in range(3):
        one = stream().select(torch.tensor([index]))
        alone = network(Batch({"video": one}, ("x",), torch.zeros(1).long())).masked_patches["video"]
        assert torch.allclose(alone.values, found.values.unflatten(0, (3, -1))[index], atol=1e-5)
        assert torch.equal(alone.target, found.target.unflatten(0, (3, -1))[index])
    none = Batch({"video": stream().select(torch.zeros(3, dtype=torch.bool))}, (), torch.zeros(0).long())
    for batch in (whole, none):
        MaskedPatches().totals(network(batch))["masked/video"].backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
        network.zero_grad(set_to_none=True)


@torch.no_grad()
def test_what_is_restored_can_be_looked_at():
    network = videomae("tiny").model.build().eval()
    batch = Batch({"video": stream()}, ("a", "b", "c"), torch.arange(3))
    network.decode = lambda values, masked, chosen: network.target(  # an oracle
        network.tower.embedding.whole(values), network.tower.embedding.patch
    )[masked]
    found = network.restore("video", batch)
    assert found.borrowed
    assert found.hidden.shape == (3, 8, 32, 32)
    assert torch.equal(found.hidden[:, 0], found.hidden[:, 7])
    assert torch.equal(found.restored, stream().values)


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str):
    with torch.device("meta"):
        ours, theirs = videomae(size).model.build(), VideoMAEForPreTraining(VideoMAEConfig(**SIZES[size]))
    assert sum(p.numel() for p in ours.parameters()) == theirs.num_parameters()
    with pytest.raises(ConfigError, match="videomae has no size"):
        videomae("7")


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"hidden_dropout_prob": 0.1}, CapabilityError, r"hidden_dropout_prob: only 0.0 is supported"),
        ({"image_size": [8, 8, 8]}, ConfigError, r"image_size: expected one number or two"),
        ({"num_frames": 2}, ConfigError, r"num_frames: expected at least 3, found 2"),
        ({"frame_rate": 3}, ConfigError, r"frame_rate: unknown field"),
        ({"decoder_hidden_size": 36}, CheckpointError, r"'mask_token' has shape \[1, 1, 24\]"),
        ({"architectures": ["VideoMAEModel"]}, CheckpointError, r"not part of the model: 'decoder"),
    ],
)
def test_bad_configs(fields, error, says, tmp_path: Path):
    reference(VideoMAEForPreTraining, config(), "default").save_pretrained(tmp_path)
    edited(tmp_path, **fields)
    with pytest.raises(error, match=says):
        open_public(tmp_path)


def test_it_can_be_loaded_and_used(tmp_path: Path):
    known = config(image_size=[40, 40], id2label={0: "a", 1: "b", 2: "c"})
    theirs = reference(VideoMAEForVideoClassification, known, "random").float()
    theirs.save_pretrained(tmp_path / "theirs")
    processor = VideoMAEImageProcessor(size={"shortest_edge": 40}, crop_size={"height": 40, "width": 40})
    processor.save_pretrained(tmp_path / "theirs")
    model = sm.load(tmp_path / "theirs")
    given = list(np.random.default_rng(0).integers(0, 256, (3, 9, 61, 90, 3), dtype=np.uint8))
    found = model.classify(video=given)
    assert found.shape == (3, 3)
    model.save_pretrained(tmp_path / "ours")
    assert torch.equal(sm.load(tmp_path / "ours").classify(video=given), found)
    fresh = videomae("tiny")
    assert (fresh.public, fresh.modalities["video"].frames) == ({"image_size": 32}, 8)
