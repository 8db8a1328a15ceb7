"""From tokens to text as they come: whole characters only, and nothing of a string that ends the text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Decode = Callable[[list[int]], str]

_UNKNOWN = "�"  # what stands for bytes that are no character, or not yet
_MOST_BYTES = 4  # of one character
_WINDOW = 16


class Detokenizer:
    """The text of a sequence of tokens, piece by piece.

    A piece is the difference that a token makes to the text of a window of the last tokens, so that what a decoder does
    at the beginning of a text (a space left out) is not done within it, and that the work of each token is the same. A
    character whose last bytes have not come is held back. All pieces together are ``decode`` of all tokens.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._pieces: list[str] = []
        self._start = 0  # of the window
        self._settled = 0  # characters of the window's text that were given
        self._group = 0  # where the last tokens begin that make whole characters
        self._whole = 0  # how many tokens make whole characters

    def add(self, token: int) -> str:
        """The text that is certain with this token."""
        self._ids.append(token)
        text = self._decode(self._ids[self._start :])
        open_ = text.endswith(_UNKNOWN)
        if open_ and len(self._ids) - self._whole < _MOST_BYTES:
            return self._give(text.rstrip(_UNKNOWN))
        # After that many bytes they are no character; only the last may still be the beginning of one.
        piece = self._give(text[:-1] if open_ else text)
        self._group, self._whole = self._whole, len(self._ids) - (_MOST_BYTES - 1 if open_ else 0)
        if len(self._ids) - self._start >= _WINDOW:
            self._move()
        return piece

    def finish(self) -> str:
        """What was held back."""
        given, text = "".join(self._pieces), self._decode(self._ids)
        if text.startswith(given):
            return text[len(given) :]
        return self._decode(self._ids[self._start :])[self._settled :]

    def _give(self, text: str) -> str:
        piece = text[self._settled :]
        self._settled += len(piece)
        self._pieces.append(piece)
        return piece

    def _move(self) -> None:
        """Begin the window at the last tokens, unless they have no text that a decoder could begin with."""
        text = self._decode(self._ids[self._group :])
        if text:
            self._start, self._settled = self._group, len(text) - text.endswith(_UNKNOWN)


class Stopper:
    """Text up to the first of several strings: it is cut before it, and what may be its beginning is held back."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop = tuple(stop)
        self._held = ""
        self.stopped = False

    def add(self, piece: str) -> str:
        """The text that is certain with this piece."""
        if not self._stop or not piece:
            return piece
        text = self._held + piece
        found = [place for place in map(text.find, self._stop) if place >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max(_overlap(text, stop) for stop in self._stop)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back, where no string came."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text may be the beginning of ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((count for count in range(longest, 0, -1) if text.endswith(stop[:count])), 0)
