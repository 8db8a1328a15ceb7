"""SigLIP 2 in native resolution against transformers: read, computed, written back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from modalities import layouts
from recipes.parity import INITIALISATIONS, close, edited, opened, reference, settings, written
from torch import Tensor
from torch.nn.functional import normalize
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    Siglip2Config,
    Siglip2ForImageClassification,
    Siglip2ImageProcessorPil,
    Siglip2Model,
    Siglip2TextConfig,
    Siglip2TextModel,
    Siglip2VisionConfig,
    Siglip2VisionModel,
)

import sensorium as sm
from sensorium.core import CapabilityError, CheckpointError, ConfigError
from sensorium.core.outputs import Embedding, Outputs
from sensorium.modalities.geometry import NativePatches
from sensorium.nn.encoders.pixels import Pixels, split_places
from sensorium.public import open_network, read_public
from sensorium.recipes.siglip2 import SIZES, siglip2
from sensorium.weights.family import Folder

PATCH, MOST = 6, 20
VISION = {"hidden_size": 48, "intermediate_size": 56, "num_hidden_layers": 2, "num_attention_heads": 3,
          "patch_size": PATCH, "num_patches": 25}  # fmt: skip
TEXT = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 9, "projection_size": 48, "pad_token_id": 1,
        "bos_token_id": 2, "eos_token_id": 3}  # fmt: skip
#: Square, wide, tall, a strip, and so many of one row; shapes that come twice.
SIDES = ((30, 31), (20, 70), (60, 25), (9, 400), (30, 30), (21, 73))


def pictures() -> list[np.ndarray]:
    drawn = np.random.default_rng(0)
    return [drawn.integers(0, 256, (*sides, 3), dtype=np.uint8) for sides in SIDES]


def patches() -> tuple[Tensor, Tensor]:
    """As our batches have them: bytes with places, padded, and how many there are of each."""
    cut = NativePatches(patch=PATCH, most=MOST)
    values = [torch.tensor(cut(picture)) for picture in pictures()]
    lengths = torch.tensor([len(value) for value in values])
    assert len(set(lengths.tolist())) > 2
    return torch.nn.utils.rnn.pad_sequence(values, batch_first=True), lengths


def as_theirs() -> dict[str, Tensor]:
    """The same as the reference has them."""
    values, lengths = patches()
    squares, places = split_places(values, PATCH)
    pixels = Pixels(mean=[0.5] * 3, std=[0.5] * 3).double()(squares).flatten(2)
    real = torch.arange(values.shape[1]) < lengths[:, None]
    grids = torch.where(real[..., None], places, 0).amax(1) + 1
    return {"pixel_values": pixels, "pixel_attention_mask": real.long(), "spatial_shapes": grids}


def single(model: PreTrainedModel) -> Any:
    """The table of positions rounded to single precision, in which the reference reads it."""
    with torch.no_grad():
        table = dict(model.named_modules())
        for name, module in table.items():
            if name.endswith("position_embedding"):
                module.weight.copy_(module.weight.float())
    return model


def real_rows(hidden: Tensor) -> Tensor:
    return hidden[as_theirs()["pixel_attention_mask"].bool()]


def ids(n: int = len(SIDES)) -> Tensor:
    return torch.randint(1, 99, (n, 9), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize(
    "changes", [{}, {"hidden_act": "gelu", "layer_norm_eps": 1e-3, "num_attention_heads": 1}]
)
@torch.no_grad()
def test_parity(changes, initialisation: str, tmp_path: Path):
    config = Siglip2Config(vision_config=VISION | changes, text_config=TEXT | changes)
    theirs = single(reference(Siglip2Model, config, initialisation))
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, Siglip2Model, tmp_path / "ours")
    values, lengths = patches()
    tokens = ids()
    seen = ours.towers["image"](values, lengths)
    read = ours.towers["text"](tokens, torch.full((len(tokens),), 9))
    image, text = (normalize(features.pooled, dim=-1) for features in (seen, read))
    owner = torch.arange(len(tokens))
    outputs = Outputs(
        embeddings={"image": Embedding(image, owner), "text": Embedding(text, owner)},
        scale=ours.scale,
        bias=ours.similarity.bias,
    )
    loss = spec.contrastive.build()(outputs, owner).mean
    for model in (theirs, again):
        expected = model(input_ids=tokens, **as_theirs(), return_loss=True)
        close(seen.rows, real_rows(expected.vision_model_output.last_hidden_state))
        close(seen.pooled, expected.vision_model_output.pooler_output)
        close(read.pooled, expected.text_model_output.pooler_output)
        close(image, expected.image_embeds)
        close(text, expected.text_embeds)
        close(ours.scale * image @ text.T + ours.similarity.bias, expected.logits_per_image)
        close(loss, expected.loss)
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("head", [True, False])
@torch.no_grad()
def test_pictures_alone(head: bool, initialisation: str, tmp_path: Path):
    config = Siglip2VisionConfig(**VISION, vision_use_head=head)
    theirs = single(reference(Siglip2VisionModel, config, initialisation))
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, Siglip2VisionModel, tmp_path / "ours")
    seen = ours.towers["image"](*patches())
    for model in (theirs, again):
        expected = model(**as_theirs())
        close(seen.rows, real_rows(expected.last_hidden_state))
        if head:
            close(seen.pooled, expected.pooler_output)
    assert settings(again.config) == settings(theirs.config)


@torch.no_grad()
def test_texts_alone(tmp_path: Path):
    theirs = reference(Siglip2TextModel, Siglip2TextConfig(**TEXT), "random")
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, Siglip2TextModel, tmp_path / "ours")
    read = ours.towers["text"](ids(), torch.full((len(SIDES),), 9))
    for model in (theirs, again):
        close(read.pooled, model(ids()).pooler_output)
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@torch.no_grad()
def test_classes(initialisation: str, tmp_path: Path):
    known = Siglip2Config(vision_config=VISION, text_config=TEXT, id2label={0: "cat", 1: "dog", 2: "eel"})
    theirs = single(reference(Siglip2ForImageClassification, known, initialisation))
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, Siglip2ForImageClassification, tmp_path / "ours")
    logits = ours.head(ours.towers["image"](*patches()).pooled)
    assert ours.labels == ["cat", "dog", "eel"]
    for model in (theirs, again):
        close(logits, model(**as_theirs()).logits)


@torch.no_grad()
def test_a_picture_does_not_depend_on_its_batch():
    network = siglip2("tiny").set("model.towers.image.embedding.patch", PATCH).model.build().double().eval()
    tower = network.towers["image"]
    values, lengths = patches()
    whole = tower(values, lengths)
    for i, length in enumerate(lengths.tolist()):
        alone = tower(values[i : i + 1, :length], lengths[i : i + 1])
        close(alone.pooled, whole.pooled[i : i + 1])
        close(alone.rows, whole.segments()[i])
    none = tower(values[:0], lengths[:0])
    assert (none.rows.shape, none.pooled.shape) == ((0, 64), (0, 64))


def test_a_fresh_one_learns():
    spec = siglip2("tiny")
    torch.manual_seed(0)
    network = spec.model.build()
    image = spec.modalities["image"].build()
    values = [image.prepare(picture) for picture in pictures()]
    lengths = torch.tensor([len(value) for value in values])
    batch = torch.nn.utils.rnn.pad_sequence(values, batch_first=True)
    seen = normalize(network.towers["image"](batch, lengths).pooled)
    read = normalize(network.towers["text"](ids(), torch.tensor([7, 2, 5, 9, 1, 3])).pooled)
    owner = torch.arange(len(SIDES))
    embeddings = {"image": Embedding(seen, owner), "text": Embedding(read, owner)}
    outputs = Outputs(embeddings=embeddings, scale=network.scale, bias=network.similarity.bias)
    spec.contrastive.build()(outputs, owner).mean.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in network.parameters())


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str):
    with torch.device("meta"):
        ours, theirs = siglip2(size).model.build(), Siglip2Model(Siglip2Config(**SIZES[size]))
    assert sum(p.numel() for p in ours.parameters()) == theirs.num_parameters()
    with pytest.raises(ConfigError, match="siglip2 has no size"):
        siglip2("b15")


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"num_patches": 26}, ConfigError, r"vision_config\.num_patches: expected a square number, found 26"),
        ({"num_channels": 1}, CapabilityError, r"vision_config\.num_channels: only 3 is supported"),
        ({"image_size": 224}, ConfigError, r"vision_config\.image_size: unknown field"),
        ({"num_patches": 36}, CheckpointError, r"position_embedding\.weight' has shape \[25, 48\]"),
    ],
)
def test_bad_configs(fields, error, says: str, tmp_path: Path):
    theirs = reference(Siglip2Model, Siglip2Config(vision_config=VISION, text_config=TEXT), "default")
    theirs.save_pretrained(tmp_path)
    inner = json.loads((tmp_path / "config.json").read_text())["vision_config"]
    edited(tmp_path, vision_config=inner | fields)
    with pytest.raises(error, match=says):
        open_network(Folder(tmp_path))


def test_patches_of_another_size_are_refused(tmp_path: Path):
    reference(Siglip2VisionModel, Siglip2VisionConfig(**VISION), "default").save_pretrained(tmp_path)
    Siglip2ImageProcessorPil(patch_size=16).save_pretrained(tmp_path)
    with pytest.raises(
        ConfigError, match=r"config\.json: patch_size: expected that of the model, 6, found 16"
    ):
        read_public(Folder(tmp_path))


def test_from_pictures_and_texts_to_vectors(tmp_path: Path):
    """By way of both packages' own preparation."""
    layouts.gemma(tmp_path)
    text = TEXT | {"vocab_size": 2000, "max_position_embeddings": 64}
    theirs = reference(Siglip2Model, Siglip2Config(vision_config=VISION, text_config=text), "random").float()
    theirs.save_pretrained(tmp_path)
    processor = Siglip2ImageProcessorPil(patch_size=PATCH, max_num_patches=30)
    processor.save_pretrained(tmp_path)
    texts = ["a RED circle", "two green stars on the left of a small blue square"]
    tokens = AutoTokenizer.from_pretrained(tmp_path)(
        texts, padding="max_length", max_length=64, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = theirs(input_ids=tokens.input_ids, **processor(pictures(), return_tensors="pt"))
    model = sm.load(tmp_path)
    torch.testing.assert_close(model.embed(image=pictures()), expected.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.embed(text=texts), expected.text_embeds, atol=1e-5, rtol=0)
    model.save_pretrained(tmp_path / "ours")
    assert torch.equal(sm.load(tmp_path / "ours").embed(image=pictures()), model.embed(image=pictures()))
