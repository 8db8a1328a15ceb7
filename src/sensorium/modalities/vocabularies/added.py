"""Tokens that are found in a text before anything else, where no library does it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import final

from ...core import CapabilityError
from .settings import Token


@final
class AddedTokens:
    """Splits a text at added tokens; the longest wins."""

    def __init__(self, tokens: Iterable[Token]) -> None:
        self._tokens = {token.content: token for token in tokens}
        for token in self._tokens.values():
            if token.single_word:
                raise CapabilityError(
                    f"the added token {token.content!r} is for single words, which is not supported"
                )
        found = [
            f"{re.escape(first)}(?:{'|'.join(map(re.escape, rests))})"
            for first, rests in by_first(self._tokens).items()
        ]
        self._pattern = re.compile(f"({'|'.join(found)})") if found else None

    def split(self, text: str) -> Iterator[tuple[str, bool]]:
        """The parts of ``text`` that are not empty, and whether each is an added token."""
        parts = self._pattern.split(text) if self._pattern else [text]
        for place in range(1, len(parts), 2):  # every second part is a match
            token = self._tokens[parts[place]]
            if token.lstrip:
                parts[place - 1] = parts[place - 1].rstrip()
            if token.rstrip:
                parts[place + 1] = parts[place + 1].lstrip()
        for place, part in enumerate(parts):
            if part:
                yield part, place % 2 == 1


def by_first(contents: Iterable[str]) -> dict[str, list[str]]:
    """What follows each first character, the longest first: thousands of tokens begin with few characters."""
    found: dict[str, list[str]] = {}
    for content in sorted(contents, key=len, reverse=True):
        found.setdefault(content[0], []).append(content[1:])
    return found
