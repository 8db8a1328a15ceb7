"""RoBERTa and XLM-R against transformers: read, computed, trained on the same masks, written back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.parity import INITIALISATIONS, close, edited, opened, reference, respelled, written
from recipes.texts import PAD, VOCABULARY, check_features, check_words, inputs, loss, masked
from transformers import (
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaForMaskedLM,
    XLMRobertaForSequenceClassification,
    XLMRobertaModel,
)

from sensorium.objectives import MaskedTokens
from sensorium.public import open_network
from sensorium.recipes.roberta import roberta
from sensorium.recipes.xlm_roberta import xlm_roberta
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors

FAMILIES = pytest.mark.parametrize(
    ("made", "word_class", "tower_class", "text_class"),
    [
        (RobertaConfig, RobertaForMaskedLM, RobertaModel, RobertaForSequenceClassification),
        (XLMRobertaConfig, XLMRobertaForMaskedLM, XLMRobertaModel, XLMRobertaForSequenceClassification),
    ],
    ids=["roberta", "xlm-roberta"],
)


def sizes(**changes: Any) -> dict[str, Any]:
    """Tiny ones with uneven heads."""
    return {"vocab_size": VOCABULARY, "hidden_size": 36, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 3, "max_position_embeddings": 22, "type_vocab_size": 1,
            "layer_norm_eps": 1e-5, "pad_token_id": PAD} | changes  # fmt: skip


@FAMILIES
@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("pad", [0, PAD])
def test_masked_words(
    made, word_class, tower_class, text_class, initialisation: str, pad: int, tmp_path: Path
):
    """Positions begin after the number of the padding token."""
    theirs = reference(word_class, made(**sizes(pad_token_id=pad, hidden_act="relu")), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    given = inputs(kinds=0)
    ids = given.ids.masked_fill(given.ids == PAD, pad)
    ids[:, 0] = 2
    given = replace(given, ids=ids)
    for model in (theirs, written(spec, ours, word_class, tmp_path / "ours")):
        check_features(ours.towers["text"], model.roberta, given)
        check_words(ours, model, given)


@FAMILIES
@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_tower_alone(made, word_class, tower_class, text_class, initialisation: str, tmp_path: Path):
    theirs = reference(tower_class, made(**sizes(type_vocab_size=2)), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    for model in (theirs, written(spec, ours, tower_class, tmp_path / "ours")):
        check_features(ours.towers["text"], model, inputs())
    respelled(tmp_path / "theirs", lambda name: f"roberta.{name}")
    _, again = open_network(Folder(tmp_path / "theirs"), torch.float64)
    check_features(again.eval().towers["text"], theirs, inputs())


@FAMILIES
@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_classes_of_texts(made, word_class, tower_class, text_class, initialisation: str, tmp_path: Path):
    theirs = reference(text_class, made(**sizes(num_labels=3)), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    given = inputs(kinds=0)
    for model in (theirs, written(spec, ours, text_class, tmp_path / "ours")):
        with torch.no_grad():
            close(ours.classify("text", given.batch().streams["text"]), model(**given.theirs()).logits)


@torch.no_grad()
def test_loss(tmp_path: Path):
    theirs = reference(XLMRobertaForMaskedLM, XLMRobertaConfig(**sizes()), "random")
    _, ours = opened(theirs, tmp_path)
    given = inputs(kinds=0)
    ids, labels = masked(ours, given)
    expected = theirs(**given.theirs(ids), labels=labels).loss
    close(loss(MaskedTokens(ratio=0.15), ours, given.batch()), expected)


def test_names_in_memory_and_what_old_files_hold_more(tmp_path: Path):
    theirs = reference(RobertaForMaskedLM, RobertaConfig(**sizes()), "random")
    more = {
        "roberta.embeddings.position_ids": torch.arange(22)[None],
        "roberta.pooler.dense.weight": torch.zeros(36, 36),
        "roberta.pooler.dense.bias": torch.zeros(36),
    }
    theirs.config.save_pretrained(tmp_path)
    edited(tmp_path, architectures=["RobertaForMaskedLM"])
    write_tensors(tmp_path, dict(theirs.state_dict()) | more)
    _, ours = open_network(Folder(tmp_path), torch.float64)
    check_words(ours.eval(), theirs, inputs(kinds=0))


@pytest.mark.parametrize("made", [roberta, xlm_roberta])
def test_a_fresh_one_is_what_others_open(made: Any, tmp_path: Path):
    """Text of ours is padded with 0, so positions begin at 1."""
    torch.manual_seed(0)
    spec = made("tiny")
    ours = spec.model.build().double().eval()
    cls = RobertaForMaskedLM if made is roberta else XLMRobertaForMaskedLM
    given = inputs(kinds=0)
    given = replace(
        given, ids=given.ids.masked_fill(~given.real, 0).clamp(min=0) + (given.real & (given.ids == 0))
    )
    check_words(ours, written(spec, ours, cls, tmp_path), given)
