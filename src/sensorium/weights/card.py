"""What a person wants to know of a family before using it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """``title`` and ``paper`` (authors, year, id; several divided by semicolons), ``licence`` of the usual public
    weights, what ``preparation`` is reproduced, and some ``examples`` of hub ids.
    """

    title: str
    paper: str
    licence: str
    preparation: str
    examples: tuple[str, ...] = ()
