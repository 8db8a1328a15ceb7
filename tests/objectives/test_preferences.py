"""Preferences against the formulas written out, pair by pair."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from objectives.test_language import made, words
from torch import Tensor

from sensorium.core import Batch, ConfigError
from sensorium.core.batch import Stream
from sensorium.core.outputs import Outputs, Preference
from sensorium.objectives import IdentityPreferences, Objective, Preferences
from sensorium.objectives.preferences import Preferred, answers

CLOSE = {"atol": 1e-12, "rtol": 1e-12}
# Twelve words of three pairs; the last three are of none.
PAIR = torch.tensor([0, 0, 0, 1, 1, 1, 1, 2, 2, -1, -1, -1])
REJECTED = torch.tensor([0, 1, 1, 1, 0, 0, 1, 0, 1, 0, 0, 1]).bool()


def preference(seed: int, chunked: bool = True) -> Preference:
    found = words(12, seed)
    return Preference(found if chunked else made(found), PAIR, REJECTED)


def outputs(chunked: bool = True) -> Outputs:
    return Outputs(
        preferences=preference(0, chunked), teacher=Outputs(preferences=preference(1, not chunked))
    )


def margins(found: Preference) -> list[Tensor]:
    """Word by word."""
    sums = [torch.zeros((), dtype=torch.float64) for _ in range(3)]
    for row, target, pair, rejected in zip(
        found.words.logits, found.words.target, found.pair.tolist(), found.rejected.tolist(), strict=True
    ):
        if pair >= 0:
            surprise = row.exp().sum().log() - row[target]
            sums[pair] = sums[pair] + (surprise if rejected else -surprise)
    return sums


def expected(objective: Objective, of: Outputs) -> Tensor:
    total = torch.zeros((), dtype=torch.float64)
    for mine, theirs in zip(margins(of.preferences), margins(of.teacher.preferences), strict=True):
        margin = mine - (0 if objective.reference_free else theirs.detach())
        if isinstance(objective, IdentityPreferences):
            total = total + (margin - 1 / (2 * objective.beta)) ** 2
        else:
            right, wrong = ((1 + (sign * objective.beta * margin).exp()).log() for sign in (-1, 1))
            total = total + (1 - objective.smoothing) * right + objective.smoothing * wrong
    return total


CASES = [
    Preferences(beta=0.3),
    Preferences(beta=2.0, smoothing=0.2),
    Preferences(beta=0.3, reference_free=True),
    IdentityPreferences(beta=0.3),
    IdentityPreferences(beta=0.3, reference_free=True),
]


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("objective", CASES, ids=range(len(CASES)))
def test_the_loss_is_the_formula(objective: Preferred, chunked: bool):
    of = outputs(chunked)
    found, wanted = objective.totals(of)["preferences"], expected(objective, of)
    torch.testing.assert_close(found, wanted, **CLOSE)
    if chunked:
        leaves = [of.preferences.words.rows, of.preferences.words.table, of.preferences.words.bias]
        for ours, theirs in zip(
            torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, leaves), strict=True
        ):
            torch.testing.assert_close(ours, theirs, **CLOSE)


@pytest.mark.parametrize("objective", CASES, ids=range(len(CASES)))
def test_gradients_are_those_of_small_steps(objective: Preferred):
    of = outputs()
    of.teacher.preferences.words.logits.detach_()

    def total(rows: Tensor, table: Tensor, bias: Tensor) -> Tensor:
        changed = replace(of.preferences.words, rows=rows, table=table, bias=bias)
        return objective.totals(replace(of, preferences=replace(of.preferences, words=changed)))[
            "preferences"
        ]

    given = of.preferences.words
    assert torch.autograd.gradcheck(total, [given.rows, given.table, given.bias])


def test_answers_are_sums_over_their_words():
    found = preference(0)
    chosen, rejected = answers(found)
    torch.testing.assert_close(list(chosen - rejected), margins(found), **CLOSE)


def test_a_model_that_is_its_reference_does_not_know_better():
    of = outputs()
    same = replace(of, teacher=Outputs(preferences=of.preferences))
    assert float(Preferences().totals(same)["preferences"].detach()) == pytest.approx(3 * math.log(2))


def test_of_no_pairs_the_loss_is_nothing_but_has_a_gradient():
    of = outputs()
    none = replace(of.preferences, pair=torch.full_like(PAIR, -1))
    for objective in (Preferences(), IdentityPreferences(reference_free=True)):
        total = objective.totals(Outputs(preferences=none, teacher=Outputs(preferences=none)))["preferences"]
        assert total.item() == 0
        assert not torch.autograd.grad(total, none.words.table)[0].any()


def stream(owner: list[int], turn: list[int], ordinal: list[int], target: list[int]) -> Stream:
    count = len(owner)
    flags = torch.zeros(count, dtype=torch.bool)
    return Stream(
        values=torch.zeros(count, 4, dtype=torch.long),
        lengths=torch.full((count,), 4),
        owner=torch.tensor(owner),
        order=torch.arange(count),
        ordinal=torch.tensor(ordinal),
        turn=torch.tensor(turn),
        content=flags,
        target=torch.tensor(target).bool(),
        hidden=flags,
        corrupt=flags,
        seed=torch.zeros(count, dtype=torch.long),
    )


def test_counts_are_pairs_and_add_up():
    # A pair; an answer alone; two pairs in two turns, and a third answer; words that are no answers.
    of = stream([0, 0, 1, 2, 2, 2, 2, 2, 3, 3], [0, 0, 0, 1, 2, 1, 2, 1, 0, 0], [0, 1, 0, 0, 1, 1, 0, 2, 0, 1],
                [1, 1, 1, 1, 1, 1, 1, 1, 0, 1])  # fmt: skip
    assert of.pairs().tolist() == [0, 0, -1, 1, 2, 1, 2, -1, -1, -1]
    whole = Batch({"text": of}, ("a", "b", "c", "d"), torch.arange(4))
    assert Preferences().counts(whole) == {"preferences": 3}
    parts = [replace(whole, streams={"text": of.select(of.owner == owner)}) for owner in range(4)]
    assert [Preferences().counts(part)["preferences"] for part in parts] == [1, 0, 2, 0]
    assert of.select(of.owner == 9).pairs().tolist() == []


def test_what_is_not_possible_is_refused():
    for beta in (0.0, -1.0, math.nan):
        with pytest.raises(ConfigError, match=f"beta must be above 0, found {beta}"):
            Preferences(beta=beta)
        with pytest.raises(ConfigError, match="beta must be above 0"):
            IdentityPreferences(beta=beta)
    with pytest.raises(ConfigError, match=r"smoothing must be at least 0 and below 0.5, found 0.5"):
        Preferences(smoothing=0.5)
    of = outputs()
    with pytest.raises(ConfigError, match="preferences needs a model with a teacher"):
        Preferences().totals(replace(of, teacher=None))
    with pytest.raises(ConfigError, match="preferences: the teacher makes no such predictions"):
        Preferences().totals(replace(of, teacher=Outputs()))
    short = preference(1)
    short = replace(short, words=short.words.select(slice(9)), pair=PAIR[:9], rejected=REJECTED[:9])
    with pytest.raises(ConfigError, match=r"preferences: student and teacher must agree .* \[12\] and \[9\]"):
        Preferences().totals(replace(of, teacher=Outputs(preferences=short)))
    assert Preferences().totals(Outputs()) == {}
