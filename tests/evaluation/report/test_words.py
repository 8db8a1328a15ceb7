"""Figures put in words."""

from __future__ import annotations

import pytest

from sensorium.evaluation import Figure
from sensorium.evaluation.report import words


def test_figures() -> None:
    figure = Figure(0.8421, 0.81, 0.873, 100)
    assert words.value(figure) == "84.2 %"
    assert words.interval(figure) == "81.0 to 87.3"
    assert words.value(Figure(2.5, 1, 3, 9), share=False) == "2.5"
    assert words.points(-0.1234) == "\N{MINUS SIGN}12.3"
    assert words.points(0.1) == "+10.0"
    assert words.points(-0.0) == "0.0"


def test_meanings() -> None:
    assert words.meaning("image->text R@1") == "the right one comes first"
    assert words.meaning("accuracy") == ""
    assert words.is_share("image->text R@1")
    assert not words.is_share("image->text median rank")
    assert words.arrows("image->text R@1") == "image → text R@1"
    assert words.task_name("image-text", "R@1") == "image ↔ text"
    assert words.task_name("my-task", "accuracy") == "my-task"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(42, "42 s"), (89.6, "90 s"), (740, "12 min"), (5400, "1 h 30 min"), (12000, "3 h 20 min")],
)
def test_minutes(seconds: float, text: str) -> None:
    assert words.minutes(seconds) == text


def test_outline_of_a_spec() -> None:
    spec = {
        "class": "a.b:Root",
        "model": {"class": "a.b:Net", "width": 8, "blocks": [{"class": "a.b:Block", "on": True}]},
        "sizes": [1, 2],
        "empty": {"class": "a.b:Part"},
    }
    assert words.outline(spec) == [
        (0, "model", "Net"),
        (1, "width", "8"),
        (1, "blocks", ""),
        (2, "0", "Block"),
        (3, "on", "True"),
        (0, "sizes", "[1, 2]"),
        (0, "empty", "Part"),
    ]
