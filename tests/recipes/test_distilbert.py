"""DistilBERT against transformers: read, computed, trained on the same masks, written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.parity import INITIALISATIONS, close, opened, reference, respelled, written
from recipes.texts import VOCABULARY, check_features, check_words, inputs, loss, masked
from transformers import (
    DistilBertConfig,
    DistilBertForMaskedLM,
    DistilBertForSequenceClassification,
    DistilBertModel,
)

from sensorium.objectives import MaskedTokens
from sensorium.public import open_network
from sensorium.weights.family import Folder


def config(**changes: Any) -> DistilBertConfig:
    """A tiny one with uneven heads."""
    sizes = {"vocab_size": VOCABULARY, "dim": 36, "hidden_dim": 40, "n_layers": 2, "n_heads": 3,
             "max_position_embeddings": 24}  # fmt: skip
    return DistilBertConfig(**(sizes | changes))


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("sinusoidal", [False, True])
def test_masked_words(initialisation: str, sinusoidal: bool, tmp_path: Path):
    made = config(sinusoidal_pos_embds=sinusoidal, activation="relu")
    theirs = reference(DistilBertForMaskedLM, made, initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    given = inputs(kinds=0)
    for model in (theirs, written(spec, ours, DistilBertForMaskedLM, tmp_path / "ours")):
        check_features(ours.towers["text"], model.distilbert, given)
        check_words(ours, model, given)


@torch.no_grad()
def test_loss(tmp_path: Path):
    theirs = reference(DistilBertForMaskedLM, config(), "random")
    _, ours = opened(theirs, tmp_path)
    given = inputs(kinds=0)
    ids, labels = masked(ours, given)
    expected = theirs(**given.theirs(ids), labels=labels).loss
    close(loss(MaskedTokens(ratio=0.15), ours, given.batch()), expected)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_tower_alone(initialisation: str, tmp_path: Path):
    theirs = reference(DistilBertModel, config(), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    for model in (theirs, written(spec, ours, DistilBertModel, tmp_path / "ours")):
        check_features(ours.towers["text"], model, inputs(kinds=0))
    respelled(tmp_path / "theirs", lambda name: f"distilbert.{name}")
    _, again = open_network(Folder(tmp_path / "theirs"), torch.float64)
    check_features(again.eval().towers["text"], theirs, inputs(kinds=0))


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_classes_of_texts(initialisation: str, tmp_path: Path):
    theirs = reference(DistilBertForSequenceClassification, config(num_labels=5), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    given = inputs(kinds=0)
    for model in (theirs, written(spec, ours, DistilBertForSequenceClassification, tmp_path / "ours")):
        with torch.no_grad():
            close(ours.classify("text", given.batch().streams["text"]), model(**given.theirs()).logits)
