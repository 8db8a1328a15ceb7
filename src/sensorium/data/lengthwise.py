"""Batches of similar length: little is padded, and each costs about the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def lengthwise(
    items: Iterable[T], length: Callable[[T], int], budget: int, *, ahead: int = 16
) -> Iterator[list[T]]:
    """Groups of which the longest times the number is at most ``budget``; an item longer than that stands alone.

    Items are taken as they come, ``ahead`` budgets at a time, and sorted within these: longest first, so that what
    does not fit into memory fails at once.
    """
    waiting: list[T] = []
    held = 0
    for item in items:
        waiting.append(item)
        held += length(item)
        if held >= ahead * budget:
            yield from _groups(waiting, length, budget)
            waiting, held = [], 0
    yield from _groups(waiting, length, budget)


def _groups(items: list[T], length: Callable[[T], int], budget: int) -> Iterator[list[T]]:
    group: list[T] = []
    for item in sorted(items, key=length, reverse=True):
        if group and length(group[0]) * (len(group) + 1) > budget:
            yield group
            group = []
        group.append(item)
    if group:
        yield group
