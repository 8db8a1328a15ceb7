"""Normalisation, exact match and token F1, by hand."""

from __future__ import annotations

import pytest

from sensorium.evaluation.metrics import exact_match, normalise, token_f1


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Red, circle.", "red circle"),
        ("an apple a day", "apple day"),
        ("theatre", "theatre"),
        ("A", "a"),  # an answer that is only an article
        ("-", "-"),  # or only punctuation
        ("  \n", ""),
        ("Ünïcode!", "ünïcode"),
    ],
)
def test_normalise(text: str, normal: str) -> None:
    assert normalise(text) == normal


def test_exact_match() -> None:
    assert exact_match(["The cat.", "dog", ""], ["cat", "dogs", ""]).tolist() == [1, 0, 1]


def test_answers_that_are_articles_or_signs_stay_different() -> None:
    assert exact_match(["A", "+", "the"], ["the", "-", ""]).tolist() == [0, 0, 0]


def test_token_f1() -> None:
    # shared: red, circle; 2 * 2 / (3 + 4)
    found = token_f1(["big red circle"], ["red circle red dot"])
    assert found.item() == pytest.approx(4 / 7)
    assert token_f1(["", "x", "", "red red"], ["", "", "y", "red"]).tolist() == pytest.approx(
        [1, 0, 0, 2 / 3]
    )


def test_lengths_must_match() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        exact_match(["a", "b"], ["a"])
