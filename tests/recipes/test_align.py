"""ALIGN against transformers: read, computed, written back."""

from __future__ import annotations

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
    rows,
    settings,
    written,
)
from rich.console import Console
from torch import Tensor
from torch.nn.functional import normalize
from transformers import AlignConfig, AlignModel, AutoTokenizer, EfficientNetImageProcessorPil
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.align import modeling_align

import sensorium as sm
from sensorium.core import CapabilityError, CheckpointError, ConfigError
from sensorium.core.outputs import Embedding, Outputs
from sensorium.data.world import write_world
from sensorium.public import open_network
from sensorium.recipes.align import SIZES, align
from sensorium.run import Plan, train
from sensorium.weights.family import Folder

VISION = {
    "width_coefficient": 0.25, "depth_coefficient": 1.3, "kernel_sizes": [3, 5, 3], "in_channels": [32, 16, 24],
    "out_channels": [16, 24, 40], "strides": [1, 2, 2], "num_block_repeats": [1, 2, 1], "hidden_dim": 77,
    "expand_ratios": [1, 6, 4], "depthwise_padding": [], "image_size": 48,
    "initializer_range": 0.2,  # else what comes out is so small that its length counts as none
}  # fmt: skip
TEXT = {"vocab_size": 99, "hidden_size": 36, "intermediate_size": 40, "num_hidden_layers": 2,
        "num_attention_heads": 3, "max_position_embeddings": 20}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "plain": {"projection_dim": 16},
    "odd": {
        "projection_dim": 12,
        "vision_config": {"width_coefficient": 0.31, "depth_divisor": 4, "batch_norm_eps": 1e-2,
                          "depthwise_padding": [2], "hidden_act": "relu", "squeeze_expansion_ratio": 0.1},
        "text_config": {"hidden_act": "gelu_new", "type_vocab_size": 3, "layer_norm_eps": 1e-3},
        "temperature_init_value": 0.3,
    },
}  # fmt: skip
TEXTS = ["a red circle", "two green stars on the left of a small blue square", "x"]


@pytest.fixture(autouse=True)
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference has no kernel but its own for texts, which rounds to single precision: another takes its place."""
    monkeypatch.setattr(modeling_align, "eager_attention_forward", sdpa_attention_forward)


def config(case: str = "plain", **text: Any) -> AlignConfig:
    said = CASES[case]
    return AlignConfig(
        vision_config=VISION | said.get("vision_config", {}),
        text_config=TEXT | said.get("text_config", {}) | text,
        **{name: value for name, value in said.items() if not name.endswith("config")},
    )


def texts() -> tuple[Tensor, Tensor]:
    """Ids of unequal lengths, padded to the context."""
    lengths = torch.tensor([5, 16, 2])
    ids = torch.randint(3, 99, (3, 16), generator=torch.Generator().manual_seed(2))
    return ids.masked_fill(torch.arange(16) >= lengths[:, None], 0), lengths


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_parity(case: str, initialisation: str, tmp_path: Path):
    theirs = reference(AlignModel, config(case), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, AlignModel, tmp_path / "ours")
    ids, lengths = texts()
    mask = (torch.arange(16) < lengths[:, None]).long()
    pixels = torch.randn(3, 3, 33, 57, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    seen = ours.towers["image"](pixels.movedim(1, -1), torch.full((3,), 33))
    read = ours.towers["text"](ids, lengths)
    image, text = (
        normalize(ours.projections[name](found.pooled), dim=-1)
        for name, found in (("image", seen), ("text", read))
    )
    owner = torch.arange(3)
    outputs = Outputs(
        embeddings={"image": Embedding(image, owner), "text": Embedding(text, owner)}, scale=ours.scale
    )
    loss = spec.contrastive.build()(outputs, owner).mean
    for model in (theirs, again):
        expected = model(input_ids=ids, attention_mask=mask, pixel_values=pixels, return_loss=True)
        close(seen.rows, rows(expected.vision_model_output.last_hidden_state))
        close(seen.pooled, expected.vision_model_output.pooler_output)
        close(read.rows, expected.text_model_output.last_hidden_state[mask.bool()])
        close(image, expected.image_embeds)
        close(text, expected.text_embeds)
        close(ours.scale * image @ text.T, expected.logits_per_image)
        close(loss, expected.loss)
    assert settings(again.config) == settings(theirs.config)
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_old_spellings(tmp_path: Path):
    """Norms as they were named before 2019, and the counted positions."""
    theirs = reference(AlignModel, config(), "random")
    theirs.save_pretrained(tmp_path)
    respelled(tmp_path, lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma"))
    _, ours = open_network(Folder(tmp_path), torch.float64)
    ids, lengths = texts()
    with torch.no_grad():
        expected = theirs.text_model(ids, attention_mask=(torch.arange(16) < lengths[:, None]).long())
        found = ours.eval().towers["text"](ids, lengths)
        close(found.pooled, expected.last_hidden_state[:, 0])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """Everything that a hub repository of one has, prepared as the public one is."""
    layouts.bert(tmp_path, model_max_length=64)
    words = len((tmp_path / "vocab.txt").read_text(encoding="utf-8").splitlines())
    long = config(vocab_size=words, max_position_embeddings=70)
    reference(AlignModel, long, "default").float().save_pretrained(tmp_path)
    processor().save_pretrained(tmp_path)
    return tmp_path


def processor() -> EfficientNetImageProcessorPil:
    return EfficientNetImageProcessorPil(
        size={"height": 40, "width": 36},
        crop_size={"height": 32, "width": 32},
        do_center_crop=True,
        rescale_factor=1 / 127.5,
        rescale_offset=True,
        do_normalize=False,
        include_top=False,
        resample=2,
    )


def test_as_a_user_holds_it(checkpoint: Path):
    """The same vectors as theirs, for texts that are filled up to 64 tokens there and not here."""
    model = sm.load(checkpoint)
    model.save_pretrained(checkpoint / "again")
    drawn = np.random.default_rng(0)
    pictures = [drawn.integers(0, 256, size, dtype=np.uint8) for size in ((40, 50, 3), (70, 33, 3))]
    found = model.embed(image=pictures), model.embed(text=TEXTS)
    for folder in (checkpoint, checkpoint / "again"):
        theirs = AlignModel.from_pretrained(folder).eval()
        prepared = EfficientNetImageProcessorPil.from_pretrained(folder)(pictures, return_tensors="pt")
        tokens = AutoTokenizer.from_pretrained(folder)(
            TEXTS, padding="max_length", max_length=64, return_tensors="pt"
        )
        with torch.no_grad():
            expected = theirs(**tokens, **prepared)
        torch.testing.assert_close(found[0], expected.image_embeds, atol=1e-5, rtol=0)
        torch.testing.assert_close(found[1], expected.text_embeds, atol=1e-5, rtol=0)


def test_pictures_are_prepared_as_the_public_ones_where_no_file_says(checkpoint: Path):
    (checkpoint / "preprocessor_config.json").unlink()
    model = sm.load(checkpoint)
    values = model.modalities["image"].prepare(np.full((400, 500, 3), 255, dtype=np.uint8))
    assert values.shape == (289, 289, 3)
    torch.testing.assert_close(model.network.towers["image"].values(values), torch.ones(289, 289, 3))


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"projection_dim": 17}, ConfigError, "projection_dim: expected the width of the image tower, 16, found 17"),
        ({"colour": 3}, ConfigError, "colour: unknown field"),
        ({"vision_config": VISION | {"pooling_type": "max"}}, CapabilityError, r"vision_config\.pooling_type"),
        ({"text_config": TEXT | {"is_decoder": True}}, CapabilityError, r"text_config\.is_decoder"),
        ({"text_config": TEXT | {"vocab_size": 98}}, CheckpointError, "word_embeddings.weight"),
    ],
)  # fmt: skip
def test_bad_checkpoints(change: dict[str, Any], error: type, says: str, tmp_path: Path):
    reference(AlignModel, config(), "default").save_pretrained(tmp_path)
    edited(tmp_path, **change)
    with pytest.raises(error, match=says):
        open_network(Folder(tmp_path))


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str):
    spec = align(size)
    with torch.device("meta"):
        ours = spec.model.build()
        theirs = AlignModel(AlignConfig(**SIZES[size][0]))
    pooler = sum(p.numel() for p in theirs.text_model.pooler.parameters())
    assert sum(p.numel() for p in ours.parameters()) == theirs.num_parameters() - pooler
    assert spec.modalities["text"].max_tokens == 64
    with pytest.raises(ConfigError, match="align has no size"):
        align("huge")


def test_from_nothing_to_a_public_layout(tmp_path: Path):
    """Trained on pictures and texts of ours, and opened by others."""
    write_world(
        tmp_path / "w",
        24,
        test_samples=12,
        compositional_samples=0,
        validation_samples=4,
        clips=0.0,
        workers=1,
    )
    plan = Plan(
        "align:tiny",
        [str(tmp_path / "w" / "train.jsonl")],
        tmp_path / "run",
        ("loading.batch=8",),
        {"steps": 3},
    )
    assert train(plan, console=Console(quiet=True)).finished
    model = sm.load(tmp_path / "run")
    model.save_pretrained(tmp_path / "public")
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    theirs, found = AlignModel.from_pretrained(tmp_path / "public", output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    prepared = EfficientNetImageProcessorPil.from_pretrained(tmp_path / "public")(
        [picture], return_tensors="pt"
    )
    with torch.no_grad():
        expected = normalize(theirs.eval().get_image_features(**prepared).pooler_output, dim=-1)
    torch.testing.assert_close(model.embed(image=[picture]), expected, atol=1e-5, rtol=0)
