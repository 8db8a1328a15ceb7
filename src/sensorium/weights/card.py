"""What a person wants to know of a family before using it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """``title`` and ``paper`` (authors, year, id), ``licence`` of the usual public weights, some ``examples`` of hub
    ids, what ``preparation`` is reproduced, and what a checkpoint becomes. ``public`` False: there are no public
    weights, and parity is that of the parts.
    """

    title: str
    paper: str
    licence: str
    preparation: str
    examples: tuple[str, ...] = ()
    public: bool = True
