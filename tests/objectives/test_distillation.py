"""Distillation against the definition, and what it says to a model without a teacher."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from nn.toys import batch, model
from objectives.test_language import made, words
from training.kit import exact, samples

from sensorium.core import ConfigError
from sensorium.core.outputs import Embedding, Outputs
from sensorium.data.item import Draws
from sensorium.nn.architectures.taught import Taught
from sensorium.objectives import SameEmbeddings, SoftMaskedTokens, SoftTokens, distillation

CLOSE = {"atol": 1e-12, "rtol": 1e-12}
DRAWS = Draws(corrupt=0.5)
ALL = {
    "tokens": SoftTokens(stream="words", temperature=3.0),
    "masked": SoftMaskedTokens(stream="words", temperature=3.0),
    "embeddings": SameEmbeddings(streams=["picture", "words"]),
}


@pytest.fixture(autouse=True)
def _no_rounding():
    with exact():
        yield


def _taught() -> Taught:
    return Taught(student=model(0), teacher=model(1))


def _divergence(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    p, q = ((logits / 3.0).softmax(1) for logits in (teacher, student))
    return 9.0 * (p * (p.log() - q.log())).sum(1)


def test_soft_tokens_are_the_divergence_from_the_teacher_at_a_temperature():
    of = batch(samples(7), DRAWS)
    outputs = _taught()(of)
    expected = _divergence(outputs.language.logits, outputs.teacher.language.logits).mean()
    found = (
        ALL["tokens"].totals(outputs)["distilled/language"] / ALL["tokens"].counts(of)["distilled/language"]
    )
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("teacher", ["made", "not made"])
def test_logits_that_are_not_made_yet_are_made_for_some_tokens_at_a_time(teacher: str, monkeypatch):
    monkeypatch.setattr(distillation, "rows_at_once", lambda table: 3)
    student, other = words(8, 0), words(8, 1, softcap=2.0)
    taught = Outputs(language=other if teacher == "not made" else made(other))
    found = ALL["tokens"].totals(Outputs(language=student, teacher=taught))["distilled/language"]
    expected = (_divergence(student.logits, other.logits) * student.weight).sum()
    torch.testing.assert_close(found, expected, **CLOSE)
    leaves = [student.rows, student.table, student.bias]
    for ours, theirs in zip(
        torch.autograd.grad(found, leaves), torch.autograd.grad(expected, leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **CLOSE)
    nothing = student.select(slice(0))
    total = ALL["tokens"].totals(Outputs(language=nothing, teacher=Outputs(language=nothing)))
    assert total["distilled/language"].item() == 0
    with pytest.raises(ConfigError, match=r"found \[8, 13\] and \[0, 13\]"):
        ALL["tokens"].totals(Outputs(language=student, teacher=Outputs(language=nothing)))


def test_soft_masked_tokens_are_a_mean_over_segments():
    of = batch(samples(12), DRAWS, seed=1)
    outputs = _taught()(of)
    student, teacher = outputs.masked_tokens["words"], outputs.teacher.masked_tokens["words"]
    expected = (_divergence(student.logits, teacher.logits) * student.weight).sum()
    found = ALL["masked"].totals(outputs)
    torch.testing.assert_close(found, {"distilled/masked/words": expected}, **CLOSE)
    assert ALL["masked"].counts(of) == {"distilled/masked/words": int(of.streams["words"].corrupt.sum())}


def test_embeddings_are_pulled_to_the_direction_of_the_teachers():
    of = batch(samples(9), DRAWS)
    outputs = _taught()(of)
    for name in ("picture", "words"):
        mine, taught = outputs.embeddings[name].vectors, outputs.teacher.embeddings[name].vectors
        expected = (1 - F.cosine_similarity(mine, taught)).sum()
        key = f"distilled/{name}"
        torch.testing.assert_close(ALL["embeddings"].totals(outputs)[key], expected, **CLOSE)
        assert ALL["embeddings"].counts(of)[key] == len(mine)


@pytest.mark.parametrize("name", ALL)
def test_totals_and_counts_of_parts_add_up_and_only_the_student_learns(name):
    objective, many, network = ALL[name], samples(11), _taught()
    whole = batch(many, DRAWS)
    parts = [batch(many[:3], DRAWS), batch(many[3:4], DRAWS), batch(many[4:], DRAWS)]
    for key, total in objective.totals(network(whole)).items():
        summed = sum(objective.totals(network(part))[key] for part in parts)
        torch.testing.assert_close(summed, total, **CLOSE)
        assert objective.counts(whole)[key] == sum(objective.counts(part)[key] for part in parts)
        total.backward(retain_graph=True)
    assert any(p.grad is not None and bool(p.grad.any()) for p in network.student.parameters())
    assert all(p.grad is None for p in network.teacher.parameters())


@pytest.mark.parametrize("name", ALL)
def test_there_is_nothing_to_learn_from_oneself(name):
    of = batch(samples(6), DRAWS)
    for total in ALL[name].totals(Taught(student=model(0), teacher=model(0))(of)).values():
        assert float(total.detach()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_without_a_teacher_or_its_predictions_it_is_said(name):
    outputs = model()(batch(samples(6), DRAWS))
    with pytest.raises(ConfigError, match=r"distilled/\S+ needs a model with a teacher"):
        ALL[name].totals(outputs)
    with pytest.raises(ConfigError, match=r"distilled/\S+: the teacher makes no such predictions"):
        ALL[name].totals(replace(outputs, teacher=Outputs()))


def test_other_widths_and_temperatures_are_refused():
    of = batch(samples(6), DRAWS)
    outputs = _taught()(of)
    wide = {
        name: Embedding(F.pad(one.vectors, (0, 1)), one.owner)
        for name, one in outputs.teacher.embeddings.items()
    }
    with pytest.raises(ConfigError, match=r"must agree in number and width, found \[\d+, 8\] and \[\d+, 9\]"):
        ALL["embeddings"].totals(replace(outputs, teacher=replace(outputs.teacher, embeddings=wide)))
    with pytest.raises(ConfigError, match="temperature must be above 0, found 0"):
        SoftTokens(temperature=0)
