"""MAE against transformers: read, computed, restored, written back, and trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recipes.parity import INITIALISATIONS, close, edited, opened, reference, respelled, settings, written
from torch import Tensor
from transformers import ViTImageProcessorPil, ViTMAEConfig, ViTMAEForPreTraining, ViTMAEModel

import sensorium as sm
from sensorium.core import CapabilityError, CheckpointError, ConfigError
from sensorium.core.batch import Batch, Stream
from sensorium.core.outputs import Outputs
from sensorium.objectives import MaskedPatches
from sensorium.public import open_network, open_public
from sensorium.recipes.mae import SIZES, keys, mae
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors


def config(**changes: Any) -> ViTMAEConfig:
    """A tiny one with uneven sizes."""
    tiny = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 3,
            "image_size": 40, "patch_size": 10, "decoder_hidden_size": 24, "decoder_intermediate_size": 40,
            "decoder_num_hidden_layers": 2, "decoder_num_attention_heads": 6}  # fmt: skip
    return ViTMAEConfig(**tiny | changes)


def hidden(pixels: Tensor, patch: int = 10) -> Tensor:
    """Noise for a batch of pictures."""
    places = (pixels.shape[2] // patch) * (pixels.shape[3] // patch)
    return torch.rand(len(pixels), places, generator=torch.Generator().manual_seed(3))


def loss(found: Any, count: int) -> Tensor:
    """Of predictions for so many pictures, as training sums it up."""
    return MaskedPatches().totals(Outputs(masked_patches={"image": found}))["masked/image"] / count


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("size", [(40, 40), (60, 30)])
@torch.no_grad()
def test_restoring(size: tuple[int, int], normalised: bool, initialisation: str, tmp_path: Path):
    theirs = reference(ViTMAEForPreTraining, config(norm_pix_loss=normalised, mask_ratio=0.6), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, ViTMAEForPreTraining, tmp_path / "ours")
    pixels = torch.randn(3, 3, *size, dtype=torch.float64)
    noise, values = hidden(pixels), pixels.movedim(1, -1)
    masked = ours.masking.by_noise(noise)
    for model in (theirs, again):
        expected = model(pixels, noise=noise, interpolate_pos_encoding=size != (40, 40))
        assert torch.equal(masked, expected.mask.bool())
        close(ours.decode(values, masked), expected.logits.flatten(0, 1))
        close(loss(ours.predict(values, masked), 3), expected.loss)
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("changes", [{}, {"image_size": 32, "patch_size": 8, "qkv_bias": False}])
@torch.no_grad()
def test_features(changes: dict[str, Any], initialisation: str, tmp_path: Path):
    theirs = reference(ViTMAEModel, config(**changes), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, ViTMAEModel, tmp_path / "ours")
    for height, width in ((40, 40), (60, 30)) if not changes else ((32, 32), (35, 50)):
        pixels = torch.randn(2, 3, height, width, dtype=torch.float64)
        noise, values = hidden(pixels, theirs.config.patch_size), pixels.movedim(1, -1)
        order = noise.argsort(1)
        seen = ours.towers["image"](values, torch.full((2,), height))
        for model in (theirs, again):
            model.config.mask_ratio = 0.0
            features = model(pixels, noise=noise, interpolate_pos_encoding=True).last_hidden_state
            close(seen.rows.unflatten(0, (2, -1))[:, 1:].gather(1, places(order, features)), features[:, 1:])
            close(seen.pooled, features[:, 0])
            model.config.mask_ratio = 0.75
            part = model(pixels, noise=noise, interpolate_pos_encoding=True)
            rank = part.last_hidden_state.shape[1] - 1
            visible = ours.towers["image"].visible(values, part.mask.bool()).rows.unflatten(0, (2, -1))
            among = order[:, :rank].argsort(1).argsort(1)
            close(visible[:, 1:].gather(1, places(among, features)), part.last_hidden_state[:, 1:])
    assert settings(again.config) == settings(theirs.config)


def places(order: Tensor, like: Tensor) -> Tensor:
    return order[..., None].expand(-1, -1, like.shape[-1])


@pytest.mark.parametrize("cls", [ViTMAEModel, ViTMAEForPreTraining])
@torch.no_grad()
def test_spellings(cls: type, tmp_path: Path):
    """As version 4 wrote them, as version 5 does, as they are in memory, and with a prefix."""
    theirs = reference(cls, config(), "random")
    spec, ours = opened(theirs, tmp_path)
    pixels = torch.randn(2, 40, 40, 3, dtype=torch.float64)
    expected = ours.towers["image"](pixels, torch.full((2,), 40)).rows
    memory = {name: tensor.contiguous() for name, tensor in theirs.state_dict().items()}
    write_tensors(tmp_path, memory)
    renames = [
        lambda name: name,
        lambda name: name.replace("decoder.decoder_layers", "decoder.decoder_encoder.layer"),
        lambda name: name if name.startswith(("decoder", "vit.")) else f"vit.{name}",
    ]
    for rename in renames:
        respelled(tmp_path, rename)
        _, network = open_network(Folder(tmp_path), torch.float64)
        close(network.eval().towers["image"](pixels, torch.full((2,), 40)).rows, expected)
    names = keys(spec).save(dict(ours.state_dict()))
    assert any(name.endswith("encoder.layer.1.attention.attention.query.weight") for name in names)
    assert ("decoder.decoder_layers.0.layernorm_before.weight" in names) == (cls is ViTMAEForPreTraining)


def stream(count: int = 3) -> Stream:
    """Pictures as bytes."""
    ones = torch.ones(count, dtype=torch.bool)
    numbers = torch.arange(count)
    drawn = torch.Generator().manual_seed(5)
    return Stream(
        values=torch.randint(0, 256, (count, 64, 64, 3), dtype=torch.uint8, generator=drawn),
        lengths=torch.full((count,), 64),
        owner=numbers,
        order=torch.zeros_like(numbers),
        ordinal=torch.zeros_like(numbers),
        turn=torch.zeros_like(numbers),
        content=ones,
        target=~ones,
        hidden=~ones,
        corrupt=ones,
        seed=numbers + 7,
    )


def test_fresh_tables_are_those_of_the_paper():
    spec = mae("tiny")
    fresh = spec.model.build()
    embeddings = ViTMAEModel(ViTMAEConfig(**SIZES["tiny"])).embeddings
    embeddings.patch_embeddings.projection._is_hf_initialized = False  # which left the table at zero
    embeddings.initialize_weights()
    table = fresh.towers["image"].embedding.positions.weight
    torch.testing.assert_close(table, embeddings.position_embeddings[0], atol=1e-6, rtol=0)
    assert fresh.decoder.positions.weight.abs().sum() > 0
    assert not any("positions" in name for name, _ in fresh.named_parameters())


def test_batched_is_single_and_everything_learns():
    torch.manual_seed(0)
    network = mae("tiny").model.build()
    whole = Batch({"image": stream()}, ("a", "b", "c"), torch.arange(3))
    found = network(whole).masked_patches["image"]
    assert MaskedPatches().counts(whole) == {"masked/image": 3}
    assert found.values.shape == (3 * 48, 192)
    assert torch.allclose(found.weight.sum(), torch.tensor(3.0))
    for index in range(3):
        one = stream().select(torch.tensor([index]))
        alone = network(Batch({"image": one}, ("x",), torch.zeros(1).long())).masked_patches["image"]
        assert torch.allclose(alone.values, found.values.unflatten(0, (3, -1))[index], atol=1e-5)
        assert torch.equal(alone.target, found.target.unflatten(0, (3, -1))[index])
    MaskedPatches().totals(Outputs(masked_patches={"image": found}))["masked/image"].backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    network.zero_grad(set_to_none=True)
    none = Batch({"image": stream().select(torch.zeros(3, dtype=torch.bool))}, (), torch.zeros(0).long())
    MaskedPatches().totals(network(none))["masked/image"].backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("normalised", [False, True])
@torch.no_grad()
def test_what_is_restored_can_be_looked_at(normalised: bool):
    network = mae("tiny").set("model.target.normalise", normalised).model.build().eval()
    batch = Batch({"image": stream()}, ("a", "b", "c"), torch.arange(3))
    found = network.restore("image", batch)
    assert found.restored.dtype == torch.uint8
    assert found.borrowed is normalised
    assert found.hidden.float().mean() == 0.75
    assert torch.equal(found.values, stream().values)
    assert torch.equal(found.restored[~found.hidden], found.values[~found.hidden])
    assert not torch.equal(found.restored[found.hidden], found.values[found.hidden])
    network.decode = lambda values, masked, chosen: network.target(  # an oracle
        network.tower.embedding.whole(values), network.tower.embedding.patch
    )[masked]
    assert torch.equal(network.restore("image", batch).restored, found.values)
    with pytest.raises(CapabilityError, match="restores no hidden parts of sound"):
        network.restore("sound", batch)


def test_as_many_patches_must_be_visible():
    network = mae("tiny").model.build()
    masked = torch.zeros(2, 64, dtype=torch.bool)
    masked[0, :3] = True
    with pytest.raises(ConfigError, match="as many patches of each segment must be visible, found 61 to 64"):
        network.predict(torch.rand(2, 64, 64, 3), masked)


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str):
    with torch.device("meta"):
        ours, theirs = mae(size).model.build(), ViTMAEForPreTraining(ViTMAEConfig(**SIZES[size]))
    fixed = sum(b.numel() for name, b in ours.named_buffers() if "positions" in name)
    assert sum(p.numel() for p in ours.parameters()) + fixed == theirs.num_parameters()
    with pytest.raises(ConfigError, match="mae has no size"):
        mae("7")


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        (
            {"image_size": [40, 60]},
            CapabilityError,
            r"image_size: only squares are supported, found 4 x 6 patches",
        ),
        ({"mask_ratio": 1.0}, ConfigError, r"masking.ratio must be at least 0 and below 1"),
        ({"hidden_dropout_prob": 0.1}, CapabilityError, r"hidden_dropout_prob: only 0.0 is supported"),
        ({"decoder_width": 3}, ConfigError, r"decoder_width: unknown field"),
        ({"decoder_hidden_size": 36}, CheckpointError, r"'decoder\..*' has shape"),
        ({"architectures": ["ViTMAEModel"]}, CheckpointError, r"not part of the model: 'decoder"),
        ({"architectures": ["ViTMAEForArt"]}, CapabilityError, r"expected one of ViTMAEForPreTraining"),
    ],
)
def test_bad_configs(fields, error, says, tmp_path: Path):
    reference(ViTMAEForPreTraining, config(), "default").save_pretrained(tmp_path)
    edited(tmp_path, **fields)
    with pytest.raises(error, match=says):
        open_public(tmp_path)


def test_it_can_be_loaded_and_used(tmp_path: Path):
    reference(ViTMAEForPreTraining, config(), "random").float().save_pretrained(tmp_path / "theirs")
    ViTImageProcessorPil(size={"height": 40, "width": 40}).save_pretrained(tmp_path / "theirs")
    model = sm.load(tmp_path / "theirs")
    pictures = list(np.random.default_rng(0).integers(0, 256, (3, 61, 90, 3), dtype=np.uint8))
    found = model.embed(image=pictures)
    assert found.shape == (3, 48)
    model.save_pretrained(tmp_path / "ours")
    assert torch.equal(sm.load(tmp_path / "ours").embed(image=pictures), found)
