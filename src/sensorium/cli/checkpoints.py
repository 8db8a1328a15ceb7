"""Verbs about public checkpoints."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from tyro.conf import Positional as Free
from tyro.conf import UseAppendAction as Many

from ..core import ConfigError, nearest


def convert(
    model: Free[str],
    out: Free[Path],
    *,
    to: str = "transformers",
    code: Many[tuple[str, ...]] = (),
) -> None:
    """Write a model in another layout: that of transformers or open_clip where its family has one, or our own.

    Args:
        model: a run, a directory or a hub id.
        out: the folder to write, empty or not there yet.
        to: transformers, open_clip or sensorium.
        code: your Python files that the model was trained with.
    """
    from ..model import load
    from ..recipes import find

    if to not in (known := {"sensorium", *(family.layout for family in find.families())}):
        raise ConfigError(f"--to: there is no layout {to!r}{nearest(to, known)}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: expected a folder that is empty or not there yet")
    load(model, code=code).save_pretrained(out, layout=to)
    Console().print(f"{out}: written in the layout of {to}", highlight=False)


def zoo(family: Free[str | None] = None, markdown: bool = False) -> None:
    """List the public checkpoints that can be read and written, with their licences and how exactly they are matched.

    Args:
        family: only this one, with everything that is known of it.
        markdown: as the table of the documentation.
    """
    from rich.table import Table

    from .. import zoo as listed

    console = Console()
    if markdown and family is not None:
        raise ConfigError(f"--markdown is the table of all families: leave out {family}")
    if markdown:
        console.file.write(listed.markdown())
        return
    entries = listed.entries()
    if family is not None:
        known = {entry.recipe: entry for entry in entries}
        if family not in known:
            raise ConfigError(f"there is no family {family!r}{nearest(family, known)}")
        for name, value in zip(listed.COLUMNS, known[family].row(), strict=True):
            console.print(f"{name:14} {value}", highlight=False, markup=False)
        return
    if not console.is_terminal:  # whoever reads a pipe or a file wants whole rows
        console.width = 250
    table = Table(box=None, pad_edge=False)
    shown = ("recipe", "system", "usual licence", "layouts", "parity")
    for column in shown:
        table.add_column(column, no_wrap=column == "recipe", overflow="fold")
    for entry in entries:
        row = dict(zip(listed.COLUMNS, entry.row(), strict=True))
        table.add_row(*(row[column] for column in shown))
    console.print(table)
