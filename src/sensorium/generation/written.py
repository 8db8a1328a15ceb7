"""What decoding gives back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Reason = Literal["stop", "length", "stop_string"]


@dataclass(frozen=True)
class TokenLogprob:
    """The log-probability (nats) of a token as the network gives it, before any control, and of the likeliest ones."""

    id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Written:
    """One text.

    ``ids`` are its tokens without the one that stopped it; ``text`` ends before a string that stopped it, whose tokens
    are among the ``ids``. ``reason``: a token of those that stop, a string, or the greatest length. ``logprobs``: one
    for each of ``ids``, if asked for. ``score``: of a beam search, the sum of log-probabilities over length **
    length_penalty, the stopping token with it.
    """

    ids: list[int]
    text: str
    reason: Reason
    logprobs: list[TokenLogprob] | None = None
    score: float | None = None


@dataclass(frozen=True)
class Piece:
    """What one token adds to the text of a sequence; with the last of them, the whole."""

    sequence: int
    text: str
    written: Written | None = None
