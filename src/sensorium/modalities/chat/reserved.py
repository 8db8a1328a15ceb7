"""Strings with a meaning of their own, such as special tokens: finding them, and keeping them from being found."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import final


@final
class Reserved:
    """Finds strings in texts: the longest of those that begin at a place. Those of one character are not among them."""

    def __init__(self, strings: Collection[str]) -> None:
        self._strings = {one for one in strings if len(one) > 1}
        self._lengths = sorted({len(one) for one in self._strings}, reverse=True)
        self._beginnings = {one[:length] for one in self._strings for length in range(1, len(one))}
        heads = "".join(sorted({re.escape(one[0]) for one in self._strings}))
        self._heads = re.compile(f"[{heads}]") if heads else None

    def find(self, text: str, begin: int = 0) -> Iterator[tuple[int, int]]:
        """Where the strings are written in ``text``, from ``begin`` on: the places where they begin and end."""
        for place in self._places(text, begin):
            if place >= begin and (length := self._length(text, place)):
                begin = place + length
                yield place, begin

    def literally(self, text: str, mark: str) -> str:
        """``text`` with ``mark`` after the first character of each string in it, which is then found no more.

        So is the beginning of one with which ``text`` ends, which what follows could complete.
        """
        pieces, last = [], 0
        longest = self._lengths[0] if self._lengths else 0
        for place in self._places(text, 0):
            ends = len(text) - place < longest and text[place:] in self._beginnings
            if ends or self._length(text, place):
                pieces.append(text[last : place + 1])
                last = place + 1
        return mark.join([*pieces, text[last:]])

    def _places(self, text: str, begin: int) -> Iterator[int]:
        return (found.start() for found in self._heads.finditer(text, begin)) if self._heads else iter(())

    def _length(self, text: str, place: int) -> int:
        pieces = (text[place : place + length] for length in self._lengths)  # shorter at the end of the text
        return next((len(piece) for piece in pieces if piece in self._strings), 0)
