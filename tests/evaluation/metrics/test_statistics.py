"""Intervals that cover what they should, and no false certainty."""

from __future__ import annotations

import pytest
import torch

from sensorium.evaluation.metrics import Figure, bootstrap, paired_difference


def test_interval_is_that_of_the_normal_approximation_for_many_values() -> None:
    values = torch.randn(2000, generator=torch.Generator().manual_seed(0)) + 3
    figure = bootstrap(values)
    assert figure.value == pytest.approx(values.double().mean().item())
    error = values.std().item() / 2000**0.5
    assert figure.low == pytest.approx(figure.value - 1.96 * error, abs=0.2 * error)
    assert figure.high == pytest.approx(figure.value + 1.96 * error, abs=0.2 * error)


def test_coverage_on_a_known_distribution() -> None:
    generator = torch.Generator().manual_seed(1)
    draws = (torch.rand(300, 80, generator=generator) < 0.3).double()
    covered = [(f := bootstrap(row, seed=i)).low <= 0.3 <= f.high for i, row in enumerate(draws)]
    assert 0.91 <= sum(covered) / len(covered) <= 0.98


def test_groups_are_drawn_together() -> None:
    # ten copies of each of 40 values tell no more than the 40 values
    few = (torch.rand(40, generator=torch.Generator().manual_seed(2)) < 0.5).double()
    many, groups = few.repeat_interleave(10), torch.arange(40).repeat_interleave(10)
    grouped = bootstrap(many, groups=groups)
    assert grouped == bootstrap(few)
    assert grouped.n == 40
    alone = bootstrap(many)
    assert alone.high - alone.low < 0.5 * (grouped.high - grouped.low)


def test_groups_of_different_sizes_weigh_by_their_values() -> None:
    figure = bootstrap(torch.tensor([1.0, 1.0, 1.0, 0.0]), groups=torch.tensor([7, 7, 7, 3]))
    assert figure.value == 0.75
    assert (figure.low, figure.high) == (0.0, 1.0)


def test_all_right_is_not_certainty() -> None:
    figure = bootstrap(torch.ones(30))
    assert (figure.value, figure.high) == (1.0, 1.0)
    assert figure.low == pytest.approx(0.025 ** (1 / 30))  # Clopper-Pearson
    figure = bootstrap(torch.zeros(30))
    assert (figure.value, figure.low) == (0.0, 0.0)
    assert figure.high == pytest.approx(1 - 0.025 ** (1 / 30))


def test_median() -> None:
    figure = bootstrap(torch.tensor([1.0, 2.0, 3.0, 100.0]), statistic="median")
    assert figure.value == 2.5
    assert 1 <= figure.low <= figure.value <= figure.high <= 100


def test_paired_difference_is_narrower_than_the_values() -> None:
    base = torch.randn(200, generator=torch.Generator().manual_seed(3))
    figure = paired_difference(base + 0.1, base)
    assert figure.low == pytest.approx(0.1, abs=1e-6)
    assert figure.high == pytest.approx(0.1, abs=1e-6)
    same = paired_difference(base, base)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_seeds() -> None:
    values = torch.rand(50, generator=torch.Generator().manual_seed(4))
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values) != bootstrap(values, seed=1)


def test_many_values_are_drawn_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensorium.evaluation.metrics.statistics._CHUNK", 500)
    values = torch.rand(50, generator=torch.Generator().manual_seed(4))
    figure = bootstrap(values)
    assert figure.low < figure.value < figure.high


@pytest.mark.parametrize("values", [torch.zeros(0), torch.zeros(2, 2)])
def test_no_values_are_an_error(values: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="non-empty vector"):
        bootstrap(values)


def test_pairs_must_match() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        paired_difference(torch.zeros(2), torch.zeros(3))


def test_json_leaves_out_an_unknown_chance() -> None:
    assert Figure(0.5, 0.4, 0.6, 10).to_json() == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
    assert Figure(0.5, 0.4, 0.6, 10).against(0.1).to_json()["chance"] == 0.1
