"""A table for the eye, and a small JSON file for the record."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from .machine import load, machine

RESULTS = Path(__file__).parents[1] / "results"


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print rows under a title; the first column is text, the others are figures."""
    shown = Table(title=title, title_justify="left")
    for place, column in enumerate(columns):
        shown.add_column(column, justify="right" if place else "left")
    for row in rows:
        shown.add_row(*map(str, row))
    Console(width=110).print(shown)


def figures(title: str, found: Mapping[str, Any]) -> None:
    """Print those of the values that are figures: a median with its interval."""
    measured = {name: value for name, value in found.items() if isinstance(value, dict) and "low" in value}
    rows = [(name, one["value"], f"{one['low']} .. {one['high']}") for name, one in measured.items()]
    table(title, ("", "median", "95 %"), rows)


def save(name: str, found: Mapping[str, Any], *, load_before: float, folder: Path = RESULTS) -> Path:
    """Write the figures with date, machine and load to ``results/NAME.json``; returns the file."""
    record = {
        "benchmark": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "load": {"before": load_before, "after": load()},
        "figures": dict(found),
    }
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps(record, indent=1) + "\n")
    return file
