"""Charts: what is drawn, and what is not."""

from __future__ import annotations

import math

import pytest

from sensorium.evaluation.report.curves import Line, chart, number, smooth, thin, ticks


def test_smooth_keeps_a_constant_and_follows_a_step() -> None:
    constant = [(float(x), 3.0) for x in range(500)]
    assert [y for _, y in smooth(constant)] == pytest.approx([3.0] * 500)
    step = [(float(x), float(x >= 250)) for x in range(500)]
    found = [y for _, y in smooth(step)]
    assert found[249] == 0
    assert 0 < found[255] < 1
    assert found[-1] == pytest.approx(1, abs=1e-3)


def test_few_points_are_not_smoothed() -> None:
    points = [(0.0, 1.0), (1.0, 5.0), (2.0, 2.0)]
    assert smooth(points) == points


def test_thin_takes_means_of_stretches() -> None:
    assert thin([(0, 0), (1, 2), (2, 4), (3, 10)], most=2) == [(0.5, 1), (2.5, 7)]
    assert thin([(0, 0)], most=2) == [(0, 0)]
    assert len(thin([(float(x), 0.0) for x in range(1001)], most=240)) == 240


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (3, 47, [10, 20, 30, 40]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (2, 2, [2]),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 5) == expected


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1e-3, "1e-3"),
        (2.5e-4, "2.5e-4"),
        (0.25, "0.25"),
        (1234, "1,234"),
        (56789, "56.8k"),
        (-2, "-2"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_names_are_escaped() -> None:
    drawn = chart("<Loss>", [Line('a"><script>', [(0, 1), (1, 2)])])
    assert "<script>" not in drawn
    assert "&lt;Loss&gt;" in drawn


def test_values_that_are_not_finite_are_left_out() -> None:
    drawn = chart(
        "Loss", [Line("loss", [(0, 1.0), (1, math.nan), (2, math.inf), (3, 2.0)]), Line("none", [])]
    )
    assert "nan" not in drawn
    assert "inf" not in drawn
    assert drawn.count('class="curve') == 1
    assert chart("Loss", [Line("loss", [(0, math.nan)])]) == ""


def test_a_single_point_is_a_dot() -> None:
    assert "<circle" in chart("Loss", [Line("loss", [(10, 2.0)])])
