"""ELECTRA against transformers: both networks read, computed, trained on the same replacements, written back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recipes.parity import INITIALISATIONS, close, opened, reference, respelled, written
from recipes.texts import MASK, SPECIAL, VOCABULARY, check_features, check_words, inputs, loss
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import (
    ElectraConfig,
    ElectraForMaskedLM,
    ElectraForPreTraining,
    ElectraForSequenceClassification,
    ElectraModel,
)

from sensorium.core import CapabilityError, Spec
from sensorium.core.state import saved_tensors
from sensorium.nn.encoders.masking import Masking
from sensorium.public import open_network
from sensorium.recipes._words import TOWER, masked_words
from sensorium.recipes.electra import SHARES, electra
from sensorium.weights.family import Folder

EMBEDDINGS = pytest.mark.parametrize("embedding", [20, 36], ids=["projected", "as wide"])


def config(**changes: Any) -> ElectraConfig:
    """A tiny one with uneven heads."""
    sizes = {"vocab_size": VOCABULARY, "embedding_size": 20, "hidden_size": 36, "intermediate_size": 40,
             "num_hidden_layers": 2, "num_attention_heads": 3, "max_position_embeddings": 24}  # fmt: skip
    return ElectraConfig(**(sizes | changes))


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@EMBEDDINGS
def test_judge(initialisation: str, embedding: int, tmp_path: Path):
    theirs = reference(
        ElectraForPreTraining, config(embedding_size=embedding, hidden_act="gelu_new"), initialisation
    )
    spec, ours = opened(theirs, tmp_path / "theirs")
    given = inputs()
    for model in (theirs, written(spec, ours, ElectraForPreTraining, tmp_path / "ours")):
        check_features(ours.towers["text"], model.electra, given)
        with torch.no_grad():
            found = ours.judged(given.ids, given.lengths, given.types)
            close(found, model(**given.theirs()).logits[given.real])
    with pytest.raises(CapabilityError, match="generator"):
        ours(given.batch())


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
@EMBEDDINGS
def test_generator(initialisation: str, embedding: int, tmp_path: Path):
    theirs = reference(
        ElectraForMaskedLM, config(embedding_size=embedding, hidden_act="relu"), initialisation
    )
    spec, ours = opened(theirs, tmp_path / "theirs")
    given = inputs()
    for model in (theirs, written(spec, ours, ElectraForMaskedLM, tmp_path / "ours")):
        check_words(ours, model, given)


def pair() -> tuple[Spec, Any]:
    """A fresh generator and judge of ours."""
    torch.manual_seed(0)
    spec = electra("tiny")
    for tower in ("tower", "generator"):
        spec = spec.set(f"model.{tower}.embedding.vocabulary", VOCABULARY)
    network = spec.model.build().double().eval()
    network.masking = Masking(mask=MASK, special=SPECIAL, **SHARES)
    return spec, network


def generator_of(spec: Spec, network: Any) -> tuple[Spec, Any]:
    """The generator as a network of its own."""
    model = masked_words(spec.model.generator, spec.model.masking, spec.model.head)
    made = model.build().double().eval()
    made.load_state_dict(network.generator.state_dict(prefix=TOWER) | network.head.state_dict(prefix="head."))
    return spec.set("model", model), made


@torch.no_grad()
def test_losses_given_the_same_masks_and_replacements(tmp_path: Path):
    spec, ours = pair()
    given = inputs(kinds=0)
    batch, seen = given.batch(), []
    ours.towers["text"].register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0]))
    objectives = {name: part.build() for name, part in spec.objectives.items()}
    found = {name: loss(part, ours, batch) for name, part in objectives.items()}
    drawn = ours.masking(batch.streams["text"], VOCABULARY)
    replaced = (seen[-1] != given.ids) & given.real
    assert replaced.any()
    assert not replaced[~drawn.masked].any()

    judge = written(spec, ours, ElectraForPreTraining, tmp_path / "judge")
    expected = judge(**given.theirs(seen[-1]), labels=replaced.long())
    assert abs(float(found["replaced_tokens"] - expected.loss)) < 1e-6  # theirs is in single precision
    exact = binary_cross_entropy_with_logits(expected.logits[given.real], replaced[given.real].double())
    close(found["replaced_tokens"], exact)
    generator = written(*generator_of(spec, ours), ElectraForMaskedLM, tmp_path / "generator")
    labels = given.ids.masked_fill(~drawn.masked, -100)
    close(found["masked_tokens"], generator(**given.theirs(drawn.ids), labels=labels).loss)
    assert objectives["replaced_tokens"].weight == 50


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_fresh_pairs_share_their_tables(size: str):
    with torch.device("meta"):
        network = electra(size).model.build()
    widths = {"tiny": 32, "small": 64, "base": 256, "large": 256}
    assert network.generator.trunk.width == widths[size]
    assert not [name for name in saved_tensors(network) if name.startswith("generator.embedding.token")]


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_tower_alone(initialisation: str, tmp_path: Path):
    theirs = reference(ElectraModel, config(), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    for model in (theirs, written(spec, ours, ElectraModel, tmp_path / "ours")):
        check_features(ours.towers["text"], model, inputs())
    respelled(tmp_path / "theirs", lambda name: f"electra.{name}")
    _, again = open_network(Folder(tmp_path / "theirs"), torch.float64)
    check_features(again.eval().towers["text"], theirs, inputs())


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_classes_of_texts(initialisation: str, tmp_path: Path):
    theirs = reference(ElectraForSequenceClassification, config(num_labels=3), initialisation)
    spec, ours = opened(theirs, tmp_path / "theirs")
    given = inputs(kinds=0)
    for model in (theirs, written(spec, ours, ElectraForSequenceClassification, tmp_path / "ours")):
        with torch.no_grad():
            close(ours.classify("text", given.batch().streams["text"]), model(**given.theirs()).logits)
