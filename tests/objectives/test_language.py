"""Predictions whose logits are not made yet mean the same as those that have them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sensorium.core.outputs import Outputs, TokenPrediction, WordPrediction
from sensorium.objectives import NextToken
from sensorium.objectives.language import log_probabilities

CLOSE = {"atol": 1e-12, "rtol": 1e-12}
FORMS: list[dict[str, Any]] = [{}, {"scale": 0.4, "softcap": 1.5}]


def words(count: int = 8, seed: int = 0, **form: Any) -> WordPrediction:
    generator = torch.Generator().manual_seed(seed)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_()

    return WordPrediction(
        rows=drawn(count, 5),
        table=drawn(13, 5),
        bias=drawn(13),
        target=torch.randint(13, (count,), generator=generator),
        owner=torch.arange(count) // 3,
        weight=torch.rand(count, generator=generator, dtype=torch.float64),
        **form,
    )


def made(found: WordPrediction) -> TokenPrediction:
    return TokenPrediction(found.logits, found.target, found.owner, found.weight)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("count", [8, 0])
def test_next_tokens(count: int, smoothing: float, form: dict[str, Any]):
    found, objective = words(count, **form), NextToken(smoothing=smoothing)
    chunked, full = (objective.totals(Outputs(language=one))["language"] for one in (found, made(found)))
    torch.testing.assert_close(chunked, full, **CLOSE)
    leaves = [found.rows, found.table, found.bias]
    for ours, theirs in zip(
        torch.autograd.grad(chunked, leaves), torch.autograd.grad(full, leaves), strict=True
    ):
        torch.testing.assert_close(ours, theirs, **CLOSE)


def test_logits_are_made_only_where_they_are_asked_for():
    found = words()
    NextToken().totals(Outputs(language=found))["language"].backward()
    assert "logits" not in vars(found)
    assert found.logits is found.logits


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_each_token_has_its_probability(form: dict[str, Any]):
    found = words(**form)
    expected = found.logits.log_softmax(1)[torch.arange(8), found.target]
    torch.testing.assert_close(log_probabilities(found), expected, **CLOSE)
    torch.testing.assert_close(log_probabilities(made(found)), expected, **CLOSE)


@pytest.mark.parametrize("rows", [torch.tensor([5, 0]), slice(2, 4)], ids=["rows", "slice"])
def test_some_of_the_tokens_can_be_selected(rows: torch.Tensor | slice):
    found = words()
    for one in (found, made(found)):
        part = one.select(rows)
        torch.testing.assert_close(part.logits, one.logits[rows], **CLOSE)
        assert torch.equal(part.target, one.target[rows])
        assert torch.equal(part.owner, one.owner[rows])
        assert torch.equal(part.weight, one.weight[rows])
