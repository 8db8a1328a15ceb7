"""BERT against transformers: read, computed, trained on the same masks, written back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.parity import INITIALISATIONS, close, edited, opened, reference, respelled, written
from recipes.texts import MASK, SPECIAL, VOCABULARY, check_features, check_words, inputs, loss, masked
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
)

from sensorium.core import CapabilityError, CheckpointError, ConfigError
from sensorium.nn.architectures.pairs import pairs
from sensorium.nn.encoders.masking import Masking
from sensorium.nn.layers.packing import packing
from sensorium.objectives import MaskedTokens, NextSentence
from sensorium.public import open_network
from sensorium.weights.family import Folder
from sensorium.weights.write import write_tensors


def config(**changes: Any) -> BertConfig:
    """A tiny one with uneven heads."""
    sizes = {"vocab_size": VOCABULARY, "hidden_size": 36, "intermediate_size": 40, "num_hidden_layers": 2,
             "num_attention_heads": 3, "max_position_embeddings": 48}  # fmt: skip
    return BertConfig(**(sizes | changes))


def reopened(folder: Path) -> Any:
    return open_network(Folder(folder), torch.float64)[1].eval()


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_pretraining(initialisation: str, tmp_path: Path):
    theirs = reference(BertForPreTraining, config(hidden_act="gelu_new", type_vocab_size=3), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    given = inputs(kinds=3)
    for model in (theirs, written(spec, ours, BertForPreTraining, tmp_path / "ours")):
        check_features(ours.towers["text"], model.bert, given)
        check_words(ours, model, given)
        with torch.no_grad():
            found = ours.relations(given.ids, given.lengths, given.types)
            close(found, model(**given.theirs()).seq_relationship_logits)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_masked_words(initialisation: str, tmp_path: Path):
    theirs = reference(BertForMaskedLM, config(), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    given = inputs()
    for model in (theirs, written(spec, ours, BertForMaskedLM, tmp_path / "ours")):
        check_features(ours.towers["text"], model.bert, given)
        check_words(ours, model, given)


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@pytest.mark.parametrize("depth", [1, 3])
def test_tower_alone(initialisation: str, depth: int, tmp_path: Path):
    theirs = reference(BertModel, config(num_hidden_layers=depth, layer_norm_eps=1e-3), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    for model in (theirs, written(spec, ours, BertModel, tmp_path / "ours")):
        check_features(ours.towers["text"], model, inputs())


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_classes_of_texts(initialisation: str, tmp_path: Path):
    names = {0: "bad", 1: "fair", 2: "good"}
    theirs = reference(BertForSequenceClassification, config(id2label=names), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    assert ours.labels == ["bad", "fair", "good"]
    given = replace(inputs(), types=None)
    for model in (theirs, written(spec, ours, BertForSequenceClassification, tmp_path / "ours")):
        with torch.no_grad():
            close(ours.classify("text", given.batch().streams["text"]), model(**given.theirs()).logits)
        assert model.config.id2label == names


@torch.no_grad()
def test_losses_given_the_same_masks(tmp_path: Path):
    """Masked words: the mean over all masked tokens. Pairs: texts joined and exchanged as in our network."""
    theirs = reference(BertForPreTraining, config(), "random")
    _, ours = opened(theirs, tmp_path)
    given = inputs()
    ours.masking = Masking(mask=MASK, special=SPECIAL)
    batch = given.batch()
    stream = replace(
        batch.streams["text"], owner=torch.tensor([0, 0, 1, 1]), order=torch.tensor([0, 1, 0, 1])
    )
    batch = replace(batch, streams={"text": stream})
    drawn = ours.masking(stream, VOCABULARY)
    place = packing(stream.padding())
    seen = pairs(stream, place.pack(drawn.ids), types=2)
    labels = pairs(stream, place.pack(stream.values.masked_fill(~drawn.masked, -100)), types=2).ids
    real = torch.arange(seen.ids.shape[1]) < seen.lengths[:, None]
    expected = theirs(
        input_ids=seen.ids,
        attention_mask=real.long(),
        token_type_ids=seen.types,
        labels=labels.masked_fill(~real, -100),
        next_sentence_label=seen.exchanged.long(),
    ).loss
    found = loss(MaskedTokens(ratio=0.15), ours, batch) + loss(NextSentence(), ours, batch)
    close(found, expected)


@torch.no_grad()
def test_loss_of_masked_words_alone(tmp_path: Path):
    theirs = reference(BertForMaskedLM, config(), "random")
    _, ours = opened(theirs, tmp_path)
    given = replace(inputs(), types=None)
    ids, labels = masked(ours, given)
    expected = theirs(**given.theirs(ids), labels=labels).loss
    close(loss(MaskedTokens(ratio=0.15), ours, given.batch()), expected)
    alone = [labels.where(torch.arange(4)[:, None] == row, -100) for row in range(4)]
    expected = torch.stack([theirs(**given.theirs(ids), labels=part).loss for part in alone]).mean()
    close(loss(MaskedTokens(), ours, given.batch()), expected)


def _old(name: str) -> str:
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


@pytest.mark.parametrize("rename", [_old, lambda name: f"bert.{name}"], ids=["gamma and beta", "prefix"])
def test_other_spellings_of_a_tower(rename: Any, tmp_path: Path):
    theirs = reference(BertModel, config(), "random")
    theirs.save_pretrained(tmp_path)
    respelled(tmp_path, rename)
    check_features(reopened(tmp_path).towers["text"], theirs, inputs())


def test_old_files_repeat_and_hold_more(tmp_path: Path):
    """What google-bert/bert-base-uncased holds: old norms, counted positions, the decoder twice, an unused pooler."""
    theirs = reference(BertForPreTraining, config(), "random")
    save(theirs, tmp_path, {_old(name): tensor for name, tensor in theirs.state_dict().items()} | POSITIONS)
    edited(
        tmp_path,
        architectures=["BertForMaskedLM"],
        position_embedding_type="absolute",
        pooler_type="first_token_transform",
    )
    check_words(reopened(tmp_path), theirs, inputs())


POSITIONS = {"bert.embeddings.position_ids": torch.arange(48)[None]}


def save(model: nn.Module, folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A file of the tensors as they are in memory."""
    model.config.save_pretrained(folder)
    edited(folder, architectures=[type(model).__name__])
    write_tensors(folder, tensors)


def test_names_in_memory(tmp_path: Path):
    theirs = reference(BertForPreTraining, config(), "random")
    save(theirs, tmp_path, dict(theirs.state_dict()))
    check_words(reopened(tmp_path), theirs, inputs())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"position_embedding_type": "relative_key"},
            CapabilityError,
            "position_embedding_type.*'relative_key'",
        ),
        ({"tie_word_embeddings": False}, CapabilityError, "tie_word_embeddings"),
        (
            {"architectures": ["BertForQuestionAnswering"]},
            CapabilityError,
            "BertForMaskedLM.*BertForQuestionAnswering",
        ),
        ({"hiden_size": 32}, ConfigError, "hiden_size.*hidden_size"),
        ({"is_decoder": True}, CapabilityError, "is_decoder"),
        ({"num_attention_heads": 5}, ConfigError, "36.*5 heads"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_configs_that_are_not_understood(change: dict[str, Any], error: type, message: str, tmp_path: Path):
    reference(BertForMaskedLM, config(), "default").save_pretrained(tmp_path)
    edited(tmp_path, **change)
    with pytest.raises(error, match=message):
        open_network(Folder(tmp_path))


def test_tensors_without_a_place(tmp_path: Path):
    theirs = reference(BertForMaskedLM, config(), "random")
    state = dict(theirs.state_dict())
    save(
        theirs,
        tmp_path,
        state | {"cls.predictions.decoder.weight": state["cls.predictions.decoder.weight"] + 1},
    )
    with pytest.raises(CheckpointError, match=r"cls\.predictions\.decoder\.weight.*differs"):
        reopened(tmp_path)
    save(theirs, tmp_path, state | {"qa_outputs.weight": torch.zeros(2, 36)})
    with pytest.raises(CheckpointError, match="qa_outputs"):
        reopened(tmp_path)
    del state["bert.embeddings.LayerNorm.bias"]
    save(theirs, tmp_path, state)
    with pytest.raises(CheckpointError, match=r"embeddings\.LayerNorm\.bias"):
        reopened(tmp_path)


def test_a_checkpoint_with_another_head_is_named(tmp_path: Path):
    reference(BertForQuestionAnswering, config(), "default").save_pretrained(tmp_path)
    with pytest.raises(CapabilityError, match="BertForQuestionAnswering"):
        reopened(tmp_path)
