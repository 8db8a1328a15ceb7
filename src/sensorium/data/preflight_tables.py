"""A Preflight as tables on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ..core import DataError
from .duplicates import Repeats

if TYPE_CHECKING:
    from rich.console import Console

    from .preflight import Preflight

_MOST_BROKEN = 50


def render(preflight: Preflight, console: Console) -> None:
    """Print everything that was found, and last the verdict. Nothing of the data is taken as markup."""
    from rich.text import Text

    console.print(Text(f"{preflight.name}: {preflight.samples:,} samples, {preflight.decoded:,} decoded"))
    _counts(console, "modality", preflight.modalities)
    _counts(console, "combination", preflight.combinations)
    _counts(console, "split", preflight.splits)
    shown = f"label ({len(preflight.labels)} of {preflight.classes})"
    _counts(console, shown, preflight.labels)
    _sizes(console, preflight)
    _examples(console, preflight)
    _repeats(console, "the same content twice", preflight.duplicates)
    _repeats(console, "the same content or group in two splits", preflight.leaks)
    _lessons(console, preflight)
    _broken(console, preflight)
    if preflight.ok:
        console.print(Text("ok: nothing is broken", style="green"))
    elif not preflight.samples:
        console.print(Text("not usable: there are no samples", style="red"))
    else:
        console.print(Text(f"{len(preflight.broken):,} broken items", style="red"))


def _counts(console: Console, title: str, counts: Mapping[str, int]) -> None:
    if counts:
        _table(console, "", [title, "samples"], [[name, f"{count:,}"] for name, count in counts.items()])


def _sizes(console: Console, preflight: Preflight) -> None:
    rows = [
        [name, sizes.unit]
        + [f"{value:g}" for value in (sizes.min, sizes.median, sizes.p95, sizes.max)]
        + [sizes.sparkline()]
        for name, sizes in preflight.sizes.items()
    ]
    if rows:
        columns = ["modality", "unit", "min", "median", "95 %", "max", "min to max"]
        _table(console, "sizes", columns, rows)


def _examples(console: Console, preflight: Preflight) -> None:
    rows = [
        [key, ", ".join(f"{name}: {size}" for name, size in sizes.items())]
        for key, sizes in preflight.examples
    ]
    if rows:
        _table(console, "decoded examples", ["key", "size"], rows)


def _repeats(console: Console, title: str, found: Mapping[str, Repeats]) -> None:
    rows = [
        [kind, f"{repeats.count:,}", "; ".join(f"{key} = {earlier}" for key, earlier in repeats.pairs)]
        for kind, repeats in found.items()
    ]
    if rows:
        _table(console, title, ["what", "times", "the first"], rows)


def _lessons(console: Console, preflight: Preflight) -> None:
    rows = [[lesson.key, "\n".join(lesson.lines)] for lesson in preflight.lessons]
    if rows:
        _table(console, "what the model is trained to predict", ["key", "in this order"], rows)


def _broken(console: Console, preflight: Preflight) -> None:
    rows = [
        [error.key or "", _place(error), error.field or "", error.reason]
        for error in preflight.broken[:_MOST_BROKEN]
    ]
    if rows:
        title = f"broken (the first {_MOST_BROKEN})" if len(preflight.broken) > _MOST_BROKEN else "broken"
        _table(console, title, ["key", "file and line", "field", "reason"], rows)


def _place(error: DataError) -> str:
    return (error.file or "") + (f":{error.line}" if error.line else "")


def _table(console: Console, title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console.print(table)
