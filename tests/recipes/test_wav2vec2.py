"""wav2vec 2.0 against transformers: read, computed, written back, and used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nn.speech import config, mask_of, waves
from recipes.parity import INITIALISATIONS, close, edited, opened, reference, respelled, settings, written
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2ForPreTraining,
    Wav2Vec2Model,
    Wav2Vec2Processor,
)

import sensorium as sm
from sensorium.core import CapabilityError, CheckpointError, ConfigError
from sensorium.nn.encoders.spec_augment import spans
from sensorium.public import open_network, open_public
from sensorium.recipes.wav2vec2 import SIZES, wav2vec2
from sensorium.weights.family import Folder

KINDS = [("group", False), ("layer", True)]


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize(("norm", "stable"), KINDS)
@torch.no_grad()
def test_features(norm: str, stable: bool, initialisation: str, tmp_path: Path):
    theirs = reference(Wav2Vec2Model, config(norm, stable), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, Wav2Vec2Model, tmp_path / "ours")
    values, lengths = waves(203, 203) if norm == "group" else waves(203, 87, 120)
    found = ours.towers["audio"](values, lengths)
    for model in (theirs, again):
        expected = model(values[..., 0], mask_of(lengths) if norm == "layer" else None).last_hidden_state
        for row, features in zip(expected, found.segments(), strict=True):
            close(features, row[: len(features)])
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize(("norm", "stable"), KINDS)
@torch.no_grad()
def test_transcribing(norm: str, stable: bool, initialisation: str, tmp_path: Path):
    given = config(norm, stable, ctc_loss_reduction="mean", ctc_zero_infinity=True, mask_time_prob=0.0)
    theirs = reference(Wav2Vec2ForCTC, given, initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, Wav2Vec2ForCTC, tmp_path / "ours")
    values, lengths = waves(203, 203)
    logits = ours.head(ours.towers["audio"](values, lengths).rows).unflatten(0, (2, -1))
    for model in (theirs, again):
        close(logits, model(values[..., 0]).logits)
    assert settings(again.config) == settings(theirs.config)
    assert (spec.objectives["ctc"].reduction, spec.objectives["ctc"].zero_infinity) == ("mean", True)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize(("norm", "stable"), KINDS)
@torch.no_grad()
def test_pretraining(norm: str, stable: bool, initialisation: str, tmp_path: Path):
    theirs = reference(Wav2Vec2ForPreTraining, config(norm, stable, mask_feature_prob=0.1), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    again = written(spec, ours, Wav2Vec2ForPreTraining, tmp_path / "ours")
    values, lengths = waves(203, 203)
    local, frames = ours.towers["audio"].local(values, lengths)
    masked = spans(torch.tensor([1, 2]), frames, 0.4, 3, 2)
    found = ours.predict(local, frames, masked, torch.zeros(int(masked.sum()), 1, dtype=torch.long))
    for model in (theirs, again):
        expected = model(values[..., 0], mask_time_indices=masked)
        close(found.predicted, expected.projected_states[masked])
        close(found.codes, expected.projected_quantized_states[masked])
    assert settings(again.config) == settings(theirs.config)


@pytest.mark.parametrize("cls", [Wav2Vec2Model, Wav2Vec2ForCTC, Wav2Vec2ForPreTraining])
@torch.no_grad()
def test_spellings(cls: type, tmp_path: Path):
    """Weight norm as torch names it since version 2 and as it did before, and towers with a prefix and without."""
    theirs = reference(cls, config(), "random")
    _, expected = opened(theirs, tmp_path)
    values, lengths = waves(203)
    features = expected.towers["audio"](values, lengths).rows
    tower = ("encoder", "feature", "masked")
    renames = [
        lambda name: name.replace("parametrizations.weight.original0", "weight_g").removeprefix("wav2vec2."),
        lambda name: name.replace("parametrizations.weight.original1", "weight_v"),
        lambda name: f"wav2vec2.{name}" if name.startswith(tower) else name,
        lambda name: name.replace("weight_g", "parametrizations.weight.original0"),
    ]
    for rename in renames:
        respelled(tmp_path, rename)
        _, network = open_network(Folder(tmp_path), torch.float64)
        close(network.eval().towers["audio"](values, lengths).rows, features)


def saved(folder: Path, norm: str = "layer", **changes: Any) -> tuple[Wav2Vec2ForCTC, Wav2Vec2Processor]:
    """A checkpoint that transcribes, with its vocabulary, in single precision."""
    folder.mkdir(exist_ok=True)
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ENOTSV"]
    (folder / "vocab.json").write_text(json.dumps({token: number for number, token in enumerate(tokens)}))
    extractor = Wav2Vec2FeatureExtractor(return_attention_mask=norm == "layer")
    processor = Wav2Vec2Processor(
        extractor, Wav2Vec2CTCTokenizer(str(folder / "vocab.json"), do_lower_case=True)
    )
    processor.save_pretrained(folder)
    extractor.save_pretrained(folder)
    model = reference(Wav2Vec2ForCTC, config(norm, norm == "layer", **changes), "random").float()
    model.save_pretrained(folder)
    return model, processor


def sounds(*lengths: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [(0.1 * random.standard_normal(length)).astype(np.float32) for length in lengths]


@pytest.mark.parametrize("norm", ["group", "layer"])
@torch.no_grad()
def test_transcripts(norm: str, tmp_path: Path):
    """The same texts as the reference, for recordings of any length and in any batches, and after saving again."""
    model, processor = saved(tmp_path / "theirs", norm)
    ours = sm.load(tmp_path / "theirs")
    ours.save_pretrained(tmp_path / "ours")
    recordings = sounds(900, 200, 1600, 450, 451, 20)
    expected = []
    for sound in recordings:
        given = processor(sound, sampling_rate=16_000, return_tensors="pt")
        expected += processor.batch_decode(model(given.input_values).logits.argmax(-1))
    assert len(set(expected)) == len(expected), "texts differ"
    assert ours.transcribe([(sound, 16_000) for sound in recordings]) == expected
    assert ours.transcribe([(sound, 16_000) for sound in recordings], batch_samples=1) == expected
    assert sm.load(tmp_path / "ours").transcribe((recordings[2], 16_000)) == expected[2:3]
    again = Wav2Vec2Processor.from_pretrained(tmp_path / "ours")
    assert again.tokenizer("set on one").input_ids == processor.tokenizer("set on one").input_ids
    assert again.feature_extractor.return_attention_mask is (norm == "layer")


def test_what_does_not_transcribe(tmp_path: Path):
    reference(Wav2Vec2Model, config(), "default").float().save_pretrained(tmp_path)
    model = sm.load(tmp_path)
    assert model.features(audio=[(sound, 16_000) for sound in sounds(203, 87)])[1].shape == (7, 32)
    assert model.embed(audio=[(sound, 16_000) for sound in sounds(203, 87)]).shape == (2, 32)
    with pytest.raises(CapabilityError, match="does not transcribe"):
        model.transcribe(sounds(203))


@pytest.mark.parametrize(
    ("fields", "error", "says"),
    [
        ({"architectures": ["Wav2Vec2ForXVector"]}, CapabilityError, r"found 'Wav2Vec2ForXVector'"),
        ({"add_adapter": True}, CapabilityError, r"add_adapter: only False is supported"),
        ({"adapter_attn_dim": 16}, CapabilityError, r"adapter_attn_dim: only None is supported"),
        ({"conv_dim": [12]}, ConfigError, r"conv_dim: expected as many as in conv_kernel and conv_stride, found 1, 2"),
        ({"feat_extract_norm": "batch"}, ConfigError, r"feat_extract_norm: expected one of 'group', 'layer'"),
        ({"hidden_act": "mish"}, ConfigError, r"no activation 'mish'"),
        ({"ctc_loss_reduction": "none"}, ConfigError, r"ctc_loss_reduction: expected one of 'sum', 'mean'"),
        ({"rope": 3}, ConfigError, r"rope: unknown field"),
        ({"mask_time_prob": 0.0}, None, ""),
        ({"vocab_size": 12}, CheckpointError, r"'lm_head\.weight' has shape \[11, 32\], expected \[12, 32\]"),
        ({"feat_extract_norm": "layer"}, CheckpointError, r"2 tensors are missing: .*conv_layers\.1\.layer_norm"),
        ({"architectures": ["Wav2Vec2ForPreTraining"], "apply_spec_augment": False}, ConfigError,
         r"apply_spec_augment: pre-training hides frames"),
    ],
)  # fmt: skip
def test_bad_configs(fields: dict[str, Any], error: type[Exception] | None, says: str, tmp_path: Path):
    saved(tmp_path, "group")
    edited(tmp_path, **fields)
    if error is None:
        assert open_public(tmp_path).network.towers["audio"].augment is None
        return
    with pytest.raises(error, match=says):
        open_public(tmp_path)


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str):
    public = Wav2Vec2Config(**SIZES[size])
    with torch.device("meta"):
        for name, cls in ((size, Wav2Vec2ForCTC), (f"{size}-pretraining", Wav2Vec2ForPreTraining)):
            ours = wav2vec2(name).model.build()
            assert sum(p.numel() for p in ours.parameters()) == cls(public).num_parameters()
    with pytest.raises(ConfigError, match="wav2vec2 has no size"):
        wav2vec2("huge")
