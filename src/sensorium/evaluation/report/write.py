"""Put the page together: one file without anything outside it, whose scripts are only its own."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ..files import write_atomic
from . import sections, words
from .folder import RunFolder, read_run

REPORT = "report.html"
_HERE = Path(__file__).parent
_MEDIA_BUDGET = 6_500_000  # characters, so that the page stays under 8 MB


@dataclass(frozen=True)
class Command:
    """Something to type next, and what it is good for."""

    purpose: str
    line: str


def write_report(
    run: Path,
    *,
    title: str | None = None,
    facts: Mapping[str, object] | None = None,
    commands: Sequence[Command] | None = None,
    output: Path | None = None,
    media_budget: int = _MEDIA_BUDGET,
) -> Path:
    """Write ``report.html`` of a run folder and return its path.

    Args:
        title: of the page; by default the folder's name.
        facts: short statements about the run ("parameters", "machine"), over those of ``facts.json``.
        commands: what to type next; by default evaluating again and using the model from Python.
        output: where to write, instead of the run folder.
        media_budget: characters of pictures and sounds on the page; what is beyond is named only.

    Files that the run lacks are said to be absent. Raises ConfigError if there is no such folder,
    DataError for a file of it that is damaged.
    """
    import jinja2

    found = read_run(run)
    script = (_HERE / "page.js").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("page.html").render(
        run=found,
        title=title or run.resolve().name,
        facts={**found.facts, **(facts or {})},
        commands=_commands(run) if commands is None else commands,
        s=sections,
        w=words,
        headline=sections.headline(found.evaluations),
        shelves=sections.shelves(found.evaluations, media_budget),
        lasted=_lasted(found),
        style=Markup((_HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    return write_atomic(output or run / REPORT, page)


def _lasted(run: RunFolder) -> float | None:
    """Seconds of training, by the log."""
    seconds = [step["seconds"] for step in run.steps() if "seconds" in step]
    return max(seconds) if seconds else None


def _commands(run: Path) -> list[Command]:
    load = f"import sensorium; model = sensorium.load({str(run)!r})"
    return [
        Command("Evaluate on other data", f"sensorium evaluate {shlex.quote(str(run))} --data DATA"),
        Command("Use it from Python", f"python -i -c {shlex.quote(load)}"),
    ]
