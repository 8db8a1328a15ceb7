"""SigLIP against transformers: read, computed, written back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from modalities import layouts
from recipes.parity import (
    INITIALISATIONS,
    close,
    edited,
    opened,
    reference,
    respelled,
    settings,
    written,
)
from torch import Tensor
from torch.nn.functional import normalize
from transformers import (
    AutoTokenizer,
    SiglipConfig,
    SiglipForImageClassification,
    SiglipImageProcessorPil,
    SiglipModel,
    SiglipTextConfig,
    SiglipTextModel,
    SiglipVisionConfig,
    SiglipVisionModel,
)

import sensorium as sm
from sensorium.core import CapabilityError, CheckpointError, ConfigError
from sensorium.core.outputs import Embedding, Outputs
from sensorium.public import open_network
from sensorium.recipes.siglip import SIZES, siglip
from sensorium.weights.family import Folder

#: Uneven on purpose: three heads, patches that leave a remainder, a text tower of another width.
VISION = {"hidden_size": 48, "intermediate_size": 56, "num_hidden_layers": 2, "num_attention_heads": 3,
          "image_size": 43, "patch_size": 10}  # fmt: skip
TEXT = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "max_position_embeddings": 9, "projection_size": 48, "pad_token_id": 1,
        "bos_token_id": 2, "eos_token_id": 3}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {"tanh": {}, "exact": {"hidden_act": "gelu", "layer_norm_eps": 1e-3}}


def pixels(*sides: int, n: int = 3) -> Tensor:
    return torch.randn(n, 3, *sides, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def ids() -> Tensor:
    """As many as there are places."""
    return torch.randint(1, 99, (3, 9), generator=torch.Generator().manual_seed(3))


def lengths(of: Tensor) -> Tensor:
    return torch.full((len(of),), of.shape[-2] if of.ndim == 4 else of.shape[1])


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_parity(case: str, initialisation: str, tmp_path: Path):
    config = SiglipConfig(vision_config=VISION | CASES[case], text_config=TEXT | CASES[case])
    theirs = reference(SiglipModel, config, initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, SiglipModel, tmp_path / "ours")
    square, wide, tokens = pixels(43, 43), pixels(30, 75), ids()
    seen = ours.towers["image"](square.movedim(1, -1), lengths(square))
    across = ours.towers["image"](wide.movedim(1, -1), lengths(wide))
    read = ours.towers["text"](tokens, lengths(tokens))
    image, text = (normalize(features.pooled, dim=-1) for features in (seen, read))
    outputs = Outputs(
        embeddings={"image": Embedding(image, torch.arange(3)), "text": Embedding(text, torch.arange(3))},
        scale=ours.scale,
        bias=ours.similarity.bias,
    )
    loss = spec.contrastive.build()(outputs, torch.arange(3)).mean
    for model in (theirs, again):
        expected = model(input_ids=tokens, pixel_values=square, return_loss=True)
        close(seen.rows.unflatten(0, (3, -1)), expected.vision_model_output.last_hidden_state)
        close(seen.pooled, expected.vision_model_output.pooler_output)
        close(read.rows.unflatten(0, (3, -1)), expected.text_model_output.last_hidden_state)
        close(read.pooled, expected.text_model_output.pooler_output)
        close(image, expected.image_embeds)
        close(text, expected.text_embeds)
        close(ours.scale * image @ text.T + ours.similarity.bias, expected.logits_per_image)
        close(loss, expected.loss)
        stretched = model.vision_model(pixel_values=wide, interpolate_pos_encoding=True)
        close(across.rows.unflatten(0, (3, -1)), stretched.last_hidden_state)
        close(across.pooled, stretched.pooler_output)
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("head", [True, False])
@torch.no_grad()
def test_pictures_alone(head: bool, initialisation: str, tmp_path: Path):
    theirs = reference(SiglipVisionModel, SiglipVisionConfig(**VISION, vision_use_head=head), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, SiglipVisionModel, tmp_path / "ours")
    square = pixels(43, 43)
    seen = ours.towers["image"](square.movedim(1, -1), lengths(square))
    for model in (theirs, again):
        expected = model(square)
        close(seen.rows.unflatten(0, (3, -1)), expected.last_hidden_state)
        pooled = expected.pooler_output if head else expected.last_hidden_state.mean(1)
        close(seen.pooled, pooled)
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@torch.no_grad()
def test_texts_alone(initialisation: str, tmp_path: Path):
    theirs = reference(SiglipTextModel, SiglipTextConfig(**TEXT), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, SiglipTextModel, tmp_path / "ours")
    read = ours.towers["text"](ids(), lengths(ids()))
    for model in (theirs, again):
        expected = model(ids())
        close(read.rows.unflatten(0, (3, -1)), expected.last_hidden_state)
        close(read.pooled, expected.pooler_output)
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@torch.no_grad()
def test_classes(initialisation: str, tmp_path: Path):
    config = SiglipConfig(vision_config=VISION, text_config=TEXT, id2label={0: "cat", 1: "dog", 2: "eel"})
    theirs = reference(SiglipForImageClassification, config, initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, SiglipForImageClassification, tmp_path / "ours")
    square = pixels(43, 43)
    logits = ours.head(ours.towers["image"](square.movedim(1, -1), lengths(square)).pooled)
    assert ours.labels == ["cat", "dog", "eel"]
    for model in (theirs, again):
        close(logits, model(square).logits)
    vision = settings(theirs.config)["vision_config"] | {"vision_use_head": False}
    given = {"vision_config": vision, "label2id": {"cat": 0, "dog": 1, "eel": 2}}
    assert settings(again.config) == settings(theirs.config) | given


@pytest.mark.parametrize(
    ("cls", "config", "prefix"),
    [
        (SiglipVisionModel, SiglipVisionConfig(**VISION), "vision_model."),
        (SiglipTextModel, SiglipTextConfig(**TEXT), "text_model."),
    ],
)
def test_towers_alone_under_their_older_names(cls, config, prefix: str, tmp_path: Path):
    theirs = reference(cls, config, "random")
    _, ours = opened(theirs, tmp_path)
    respelled(tmp_path, lambda name: prefix + name)
    _, again = open_network(Folder(tmp_path), torch.float64)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


@pytest.mark.parametrize(
    ("section", "fields", "error", "says"),
    [
        (
            "vision_config",
            {"vision_use_head": False},
            CapabilityError,
            r"vision_config\.vision_use_head: only True",
        ),
        (
            "text_config",
            {"projection_size": 47},
            ConfigError,
            r"projection_size: expected the width of pictures, 48",
        ),
        ("text_config", {"num_towers": 2}, ConfigError, r"text_config\.num_towers: unknown field"),
        ("vision_config", {"patch_size": 11}, CheckpointError, r"patch_embedding\.weight' has shape"),
    ],
)
def test_bad_configs(section: str, fields, error, says: str, tmp_path: Path):
    theirs = reference(SiglipModel, SiglipConfig(vision_config=VISION, text_config=TEXT), "default")
    theirs.save_pretrained(tmp_path)
    inner = json.loads((tmp_path / "config.json").read_text())[section]
    edited(tmp_path, **{section: inner | fields})
    with pytest.raises(error, match=says):
        open_network(Folder(tmp_path))


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str):
    with torch.device("meta"):
        ours, theirs = siglip(size).model.build(), SiglipModel(SiglipConfig(**SIZES[size]))
    assert sum(p.numel() for p in ours.parameters()) == theirs.num_parameters()
    with pytest.raises(ConfigError, match="siglip has no size"):
        siglip("b15")


def test_a_fresh_one_learns():
    """Both towers, the scale and the bias; and there may be no rows of a modality."""
    spec = siglip("tiny")
    torch.manual_seed(0)
    network = spec.model.build()
    assert (network.scale.item(), network.similarity.bias.item()) == pytest.approx((10.0, -10.0))
    image = network.towers["image"](torch.rand(3, 64, 64, 3), torch.full((3,), 64)).pooled
    text = network.towers["text"](torch.randint(1, 2048, (3, 7)), torch.tensor([7, 2, 5])).pooled
    outputs = Outputs(
        embeddings={"image": Embedding(normalize(image), torch.arange(3)),
                    "text": Embedding(normalize(text), torch.arange(3))},
        scale=network.scale,
        bias=network.similarity.bias,
    )  # fmt: skip
    spec.contrastive.build()(outputs, torch.arange(3)).mean.backward()
    still = [name for name, p in network.named_parameters() if p.grad is None or not bool(p.grad.any())]
    assert still == ["towers.image.pool.qkv.bias"] or still == []
    assert network.towers["image"](torch.rand(0, 64, 64, 3), torch.zeros(0)).pooled.shape == (0, 64)


@pytest.mark.parametrize("words", [layouts.siglip, lambda folder: layouts.gemma(folder, "siglip")])
def test_from_pictures_and_texts_to_vectors(words, tmp_path: Path):
    """By way of both packages' own preparation: SigLIP's files, and those of SigLIP 2 for one size."""
    words(tmp_path)
    text = TEXT | {"vocab_size": 2000, "max_position_embeddings": 64}
    theirs = reference(SiglipModel, SiglipConfig(vision_config=VISION, text_config=text), "random").float()
    theirs.save_pretrained(tmp_path)
    processor = SiglipImageProcessorPil(size={"height": 43, "width": 43}, resample=2)
    processor.save_pretrained(tmp_path)
    drawn = np.random.default_rng(0)
    pictures = [drawn.integers(0, 256, (*sides, 3), dtype=np.uint8) for sides in ((40, 50), (70, 33))]
    texts = ["a red circle", "two green stars on the left of a small blue square"]
    tokens = AutoTokenizer.from_pretrained(tmp_path)(
        texts, padding="max_length", max_length=64, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        expected = theirs(input_ids=tokens.input_ids, **processor(pictures, return_tensors="pt"))
    model = sm.load(tmp_path)
    torch.testing.assert_close(model.embed(image=pictures), expected.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(model.embed(text=texts), expected.text_embeds, atol=1e-5, rtol=0)
    model.save_pretrained(tmp_path / "ours")
    assert torch.equal(sm.load(tmp_path / "ours").embed(text=texts), model.embed(text=texts))
