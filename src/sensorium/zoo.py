"""What public checkpoints are supported, as a table for a terminal or for the documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import groupby

from .recipes import find
from .weights.card import Card


@dataclass(frozen=True)
class Entry:
    """One family: its recipe, what a config calls it, the layouts, its card, and the largest difference from the
    reference in float64 that its tests measured (None: there is no reference of the whole).
    """

    recipe: str
    model_types: tuple[str, ...]
    layouts: tuple[str, ...]
    card: Card
    parity: float | None

    def row(self) -> tuple[str, ...]:
        """As texts, in the order of ``COLUMNS``."""
        parity = "of its parts" if self.parity is None else f"{self.parity:.0e}"
        return (
            self.recipe,
            self.card.title,
            self.card.paper,
            self.card.licence,
            ", ".join(self.layouts) or "no public weights",
            self.card.preparation,
            parity,
            ", ".join(self.card.examples),
        )


COLUMNS = ("recipe", "system", "paper", "usual licence", "layouts", "preparation", "parity", "for example")


def entries() -> list[Entry]:
    """Every family, by the name of its recipe."""
    found = sorted(find.families(), key=lambda family: family.name)
    listed = []
    for name, group in groupby(found, key=lambda family: family.name):
        layouts = sorted(group, key=lambda family: family.layout != "transformers")
        types = tuple(dict.fromkeys(kind for family in layouts for kind in family.model_types))
        listed.append(
            Entry(
                name, types, tuple(family.layout for family in layouts), layouts[0].card, _parity().get(name)
            )
        )
    listed += [Entry(name, (), (), card, None) for name, card in find.cards().items()]
    return sorted(listed, key=lambda entry: entry.recipe)


def markdown() -> str:
    """The table of ``docs/zoo.md``."""
    rows = [COLUMNS, tuple("-" for _ in COLUMNS), *(entry.row() for entry in entries())]
    return "\n".join(_lines(rows)) + "\n"


def _lines(rows: list[tuple[str, ...]]) -> Iterator[str]:
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"


@cache
def _parity() -> dict[str, float]:
    """What ``make parity`` measured."""
    file = resources.files(__package__) / "recipes" / "parity.json"
    return json.loads(file.read_text()) if file.is_file() else {}
