"""Objectives that are a total over a count: the values, and that parts of a batch add up."""

from __future__ import annotations

import pytest
import torch
from nn.toys import batch, model, sample
from objectives import naive
from training.kit import exact, samples

from sensorium.data.item import Draws
from sensorium.objectives import MaskedPatches, MaskedTokens, NextToken

CLOSE = {"atol": 1e-12, "rtol": 1e-12}
DRAWS = Draws(corrupt=0.5)
ALL = {
    "language": NextToken(stream="words", smoothing=0.1),
    "tokens": MaskedTokens(stream="words"),
    "patches": MaskedPatches(),
}


@pytest.fixture(autouse=True)
def _no_rounding():
    with exact():
        yield


def _losses(objective, of):
    counts, totals = objective.counts(of), objective.totals(model()(of))
    return {name: totals[name] / counts[name] for name in totals if counts[name]}


def test_next_token_is_the_mean_over_predicted_tokens():
    of = batch(samples(7), DRAWS)
    expected = naive.next_tokens(model()(of).language, 0.1)
    torch.testing.assert_close(_losses(ALL["language"], of)["language"], expected, **CLOSE)


def test_without_smoothing_next_token_is_the_negative_log_likelihood():
    of = batch(samples(4))
    found = model()(of).language
    log_probability = found.logits.log_softmax(1).gather(1, found.target[:, None]).mean()
    torch.testing.assert_close(_losses(NextToken(stream="words"), of)["language"], -log_probability, **CLOSE)


def test_masked_losses_are_means_over_segments_then_over_what_was_masked():
    of = batch(samples(12), DRAWS, seed=1)
    expected = naive.masked(model()(of), of)
    found = _losses(ALL["tokens"], of) | _losses(ALL["patches"], of)
    assert found.keys() == expected.keys() == {"masked/words", "masked/picture", "masked/wave"}
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss, **CLOSE)


@pytest.mark.parametrize("name", ALL)
def test_totals_and_counts_of_parts_add_up(name):
    objective, many = ALL[name], samples(11)
    whole = batch(many, DRAWS)
    parts = [batch(many[:3], DRAWS), batch(many[3:4], DRAWS), batch(many[4:], DRAWS)]
    for key, total in objective.totals(model()(whole)).items():
        summed = sum(objective.totals(model()(part))[key] for part in parts)
        torch.testing.assert_close(summed, total, **CLOSE)
        assert objective.counts(whole)[key] == sum(objective.counts(part)[key] for part in parts)


@pytest.mark.parametrize("name", ALL)
def test_no_data_is_a_count_and_a_total_of_zero_that_still_has_a_gradient(name):
    """So that every rank takes part, whatever it has."""
    of = batch([sample(0, ("picture",))])
    for key, total in ALL[name].totals(model()(of)).items():
        assert ALL[name].counts(of)[key] == 0
        assert float(total.detach()) == 0.0
        assert total.requires_grad
