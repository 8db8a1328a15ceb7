"""CLAP against transformers: read, computed, written back."""

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
from transformers import AutoTokenizer, ClapConfig, ClapFeatureExtractor, ClapModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.clap import modeling_clap

import sensorium as sm
from sensorium.core import CheckpointError, ConfigError
from sensorium.public import open_network, read_public
from sensorium.recipes.clap import clap
from sensorium.weights.family import Folder

#: Even and odd: windows that divide the grid or not; patches that overlap, or are not square; short sound.
CASES: dict[str, tuple[dict[str, Any], int]] = {
    "plain": ({}, 128),
    "stretched": ({"window_size": 3, "qkv_bias": False, "layer_norm_eps": 1e-3}, 101),
    "overlapping": ({"patch_size": [8, 6], "patch_stride": [4, 2], "enable_patch_layer_norm": False}, 64),
    "narrow": (
        {"patch_size": [2, 4], "patch_stride": [2, 4], "window_size": 4, "hidden_act": "gelu_new"},
        99,
    ),
}
TEXTS = ["a dog barks", "rain on a tin roof, and far away thunder", "x"]
TRUNCATION = {False: "rand_trunc", True: "fusion"}


@pytest.fixture(autouse=True)
def double(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference has no kernel but its own for texts, which rounds to single precision: another takes its place."""
    monkeypatch.setattr(modeling_clap, "eager_attention_forward", sdpa_attention_forward)


def config(case: str, fusion: bool) -> ClapConfig:
    audio = {"spec_size": 32, "num_mel_bins": 8, "patch_embeds_hidden_size": 12, "hidden_size": 24, "depths": [2, 3],
             "num_attention_heads": [2, 4], "window_size": 2, "mlp_ratio": 2.5, "aff_block_r": 3,
             "enable_fusion": fusion}  # fmt: skip
    text = {"vocab_size": 99, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "max_position_embeddings": 18, "type_vocab_size": 2}  # fmt: skip
    return ClapConfig(audio_config=audio | CASES[case][0], text_config=text, projection_dim=20)


def save_extractor(folder: Path, fusion: bool, **changes: Any) -> None:
    settings = {"feature_size": 8, "sampling_rate": 1600, "hop_length": 160, "fft_window_size": 256,
                "frequency_max": 800, "truncation": TRUNCATION[fusion]}  # fmt: skip
    ClapFeatureExtractor(**settings | changes).save_pretrained(folder)


def texts() -> tuple[Tensor, Tensor]:
    """Ids of unequal lengths, padded to the context."""
    lengths = torch.tensor([5, 16, 2])
    ids = torch.randint(3, 99, (3, 16), generator=torch.Generator().manual_seed(2))
    return ids.masked_fill(torch.arange(16) >= lengths[:, None], 1), lengths


def sounds(frames: int, fusion: bool) -> tuple[Tensor, Tensor]:
    """Spectrograms [n, views, frames, bins] in decibels, and which were longer than they show."""
    longer = torch.tensor([False, True, True])
    heard = (
        20 * torch.randn(3, 4, frames, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
        - 40
    )
    heard = torch.where(longer[:, None, None, None], heard, heard[:, :1])
    return (heard, longer) if fusion else (heard[:, :1], longer)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("fusion", [False, True])
@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_parity(case: str, fusion: bool, initialisation: str, tmp_path: Path):
    theirs = reference(ClapModel, config(case, fusion), initialisation)
    save_extractor(tmp_path / "theirs", fusion)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, ClapModel, tmp_path / "ours")
    ids, lengths = texts()
    heard, longer = sounds(CASES[case][1], fusion)
    values = heard.permute(0, 2, 3, 1)
    found = ours.towers["audio"](values, torch.full((3,), values.shape[1]))
    read = ours.towers["text"](ids, lengths)
    sound = normalize(ours.projections["audio"](found.pooled), dim=-1)
    text = normalize(ours.projections["text"](read.pooled), dim=-1)
    for model in (theirs, again):
        expected = model(
            input_ids=ids, attention_mask=(ids != 1).long(), input_features=heard, is_longer=longer[:, None]
        )
        close(as_theirs(found.rows, model.config.audio_config), expected.audio_model_output.last_hidden_state)
        close(found.pooled, expected.audio_model_output.pooler_output)
        for row, length, features in zip(
            expected.text_model_output.last_hidden_state, lengths, read.segments(), strict=True
        ):
            close(features, row[:length])
        close(sound, expected.audio_embeds)
        close(text, expected.text_embeds)
        close(ours.scale * sound @ text.T, expected.logits_per_audio)
        close(ours.similarity.back * text @ sound.T, expected.logits_per_text)
    for section in ("text_config", "audio_config"):
        mine, given = (getattr(model.config, section) for model in (again, theirs))
        assert settings(mine) == settings(given)
    assert again.config.projection_dim == 20


def as_theirs(rows: Tensor, config: Any) -> Tensor:
    """Rows of the grid, of which the reference puts the pieces of time beside one another."""
    rates = 2 ** (len(config.depths) - 1)
    stride = config.patch_stride
    y, x = config.spec_size // rates // stride[0], config.spec_size // rates // stride[1]
    pieces = config.spec_size // config.num_mel_bins
    maps = rows.unflatten(0, (3, pieces, y // pieces, x)).permute(0, 4, 2, 1, 3)
    return maps.flatten(3)


@pytest.mark.parametrize("fusion", [False, True])
def test_as_a_user_holds_it(fusion: bool, tmp_path: Path):
    """From a folder with a vocabulary to vectors of recordings and texts, written and opened again."""
    layouts.roberta(tmp_path, model_max_length=16)
    words = len(json.loads((tmp_path / "vocab.json").read_text()))
    asked = config("plain", fusion)
    asked.text_config.vocab_size = words
    theirs = reference(ClapModel, asked, "random").float()
    theirs.save_pretrained(tmp_path)
    save_extractor(tmp_path, fusion, max_length_s=5)
    model = sm.load(tmp_path)
    drawn = np.random.default_rng(0)
    recordings = [(drawn.normal(0, 0.1, n).astype(np.float32), 1600) for n in (3000, 8000)]
    vectors = model.embed(audio=recordings), model.embed(text=TEXTS)
    model.save_pretrained(tmp_path / "again")
    again = sm.load(tmp_path / "again")
    assert torch.equal(again.embed(audio=recordings), vectors[0])
    for folder in (tmp_path, tmp_path / "again"):
        _same_vectors(folder, recordings, vectors)


@torch.no_grad()
def _same_vectors(
    folder: Path, recordings: list[tuple[np.ndarray, int]], vectors: tuple[Tensor, Tensor]
) -> None:
    model = ClapModel.from_pretrained(folder).eval()
    heard = ClapFeatureExtractor.from_pretrained(folder)(
        [samples for samples, _ in recordings], sampling_rate=1600, return_tensors="pt"
    )
    ids = AutoTokenizer.from_pretrained(folder)(TEXTS, padding=True, truncation=True, return_tensors="pt")
    longer = torch.zeros(len(recordings), 1, dtype=torch.bool)  # the extractor makes one of them up
    expected = model(**ids, input_features=heard.input_features, is_longer=longer)
    torch.testing.assert_close(vectors[0], expected.audio_embeds, atol=1e-4, rtol=0)
    torch.testing.assert_close(vectors[1], expected.text_embeds, atol=1e-5, rtol=0)


@torch.no_grad()
def test_a_batch_does_not_matter():
    """Segments that are longer or not, alone or together, or none at all."""
    ours = clap("tiny").model.set("towers.audio.embedding.fusion", 8).build().double().eval().towers["audio"]
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(3, 1001, 64, 4, dtype=torch.float64, generator=generator)
    values[1] = values[1, ..., :1]
    lengths = torch.full((3,), 1001)
    whole = ours(values, lengths).pooled
    for i in range(3):
        close(ours(values[i : i + 1], lengths[:1]).pooled, whole[i : i + 1])
    assert ours(values[:0], lengths[:0]).pooled.shape == (0, 64)


def test_training_moves_every_parameter():
    """Also those that only longer recordings need, and the statistics."""
    torch.manual_seed(0)
    ours = clap("tiny").model.set("towers.audio.embedding.fusion", 8).build().towers["audio"]
    before = ours.embedding.norm_bins.running_mean.clone()
    values = torch.randn(2, 1024, 64, 4)
    found = ours(values, torch.full((2,), 1024))
    (found.pooled.square().sum() + found.rows[::3].square().sum()).backward()
    still = [n for n, p in ours.named_parameters() if p.grad is None or not bool(p.grad.ne(0).any())]
    # A shift before a norm over the batch changes nothing.
    assert set(still) <= {"embedding.fusion.whole.0.bias", "embedding.fusion.whole.3.bias"}
    assert not torch.equal(ours.embedding.norm_bins.running_mean, before)


def test_sizes():
    for size in ("tiny", "unfused", "fused"):
        spec = clap(size)
        with torch.device("meta"):
            spec.model.build()
        assert spec.modalities["audio"].long == ("fusion" if size == "fused" else "crop")
    with pytest.raises(ConfigError, match="no size 'huge'"):
        clap("huge")


def test_bad_checkpoints(tmp_path: Path):
    theirs = reference(ClapModel, config("plain", False), "default")
    theirs.save_pretrained(tmp_path)
    save_extractor(tmp_path, True)
    with pytest.raises(ConfigError, match=r"preprocessor_config.json: truncation: contradicts enable_fusion"):
        read_public(Folder(tmp_path))
    save_extractor(tmp_path, False)
    audio = json.loads((tmp_path / "config.json").read_text())["audio_config"]
    for change, message in {
        "hidden_size": r"audio_config.hidden_size: expected that of the last of 2 stages, 24, found 7",
        "mlp_ratio": "audio_config.mlp_ratio: expected a feed-forward of whole width",
        "windows": "audio_config.windows: unknown field",
    }.items():
        edited(tmp_path, audio_config=audio | {change: 7 if change == "hidden_size" else 1.7})
        with pytest.raises(ConfigError, match=message):
            read_public(Folder(tmp_path))
    edited(tmp_path, audio_config=audio | {"spec_size": 33})
    with pytest.raises(ConfigError, match="side 33"):
        open_network(Folder(tmp_path))
    edited(tmp_path, audio_config=audio | {"window_size": 4})
    with pytest.raises(CheckpointError, match="relative"):
        open_network(Folder(tmp_path))
