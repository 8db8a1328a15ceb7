"""Groups under a budget of padded length, each item once."""

from __future__ import annotations

import random

from sensorium.data.lengthwise import lengthwise


def groups(lengths: list[int], budget: int, **settings: int) -> list[list[int]]:
    return list(lengthwise(lengths, lambda length: length, budget, **settings))


def test_every_item_once_and_within_the_budget():
    lengths = [random.Random(0).randint(1, 90) for _ in range(500)]
    found = groups(lengths, 100, ahead=4)
    assert sorted(length for group in found for length in group) == sorted(lengths)
    assert all(max(group) * len(group) <= 100 for group in found)
    assert sum(max(group) * len(group) for group in found) < 1.2 * sum(lengths), "little is padded"


def test_longest_first():
    assert groups([1, 5, 3, 2, 4], 9) == [[5], [4, 3], [2, 1]]


def test_longer_than_the_budget_stands_alone():
    assert groups([30, 1, 1], 2) == [[30], [1, 1]]
    assert groups([], 2) == []


def test_no_more_is_taken_than_asked_for():
    """The second window is not begun before the first was used."""
    taken = []

    def items():
        for length in [4] * 12:
            taken.append(length)
            yield length

    found = lengthwise(items(), lambda length: length, 8, ahead=2)
    assert [next(found), next(found)] == [[4, 4], [4, 4]]
    assert len(taken) == 4
