"""What a run folder holds, read for the report. Anything but the folder itself may be missing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core import ConfigError, DataError
from ..harness import EVALUATION, GALLERY
from ..metrics import Figure

#: Name of the evaluation that training leaves on its way.
VALIDATION = "validation"


@dataclass(frozen=True)
class Evaluated:
    """One data set's ``evaluation.json`` with the gallery beside it."""

    data: str
    description: str
    figures: Mapping[str, Mapping[str, Figure]]
    counts: Mapping[str, Any]
    skipped: Mapping[str, str]
    notes: Sequence[str]
    problems: Sequence[Mapping[str, Any]]
    seconds: float
    finished: str
    items: Sequence[Mapping[str, Any]]
    media: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class RunFolder:
    """A run as files tell it. ``None`` or empty where a file is missing; ``unreadable`` lines are broken."""

    path: Path
    spec: Mapping[str, Any] | None
    data: Mapping[str, Any] | None
    facts: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    quarantine: Sequence[Mapping[str, Any]]
    evaluations: Sequence[Evaluated]
    unreadable: int

    def steps(self) -> list[Mapping[str, Any]]:
        """Lines of the log about training steps."""
        return [line for line in self.log if "event" not in line and "step" in line]

    def events(self, name: str) -> list[Mapping[str, Any]]:
        """Lines of the log about one kind of event."""
        return [line for line in self.log if line.get("event") == name]


def read_run(path: Path) -> RunFolder:
    """Read a run. Evaluations are in the folder itself or in ``evaluation/NAME/``, in order of their time.

    Raises ConfigError if there is no such folder, DataError for a file that is not the JSON it should be.
    """
    if not path.is_dir():
        raise ConfigError(
            f"{path}: expected the folder of a run, found {'a file' if path.exists() else 'nothing'}"
        )
    log, broken = _lines(path / "log.jsonl")
    quarantine, also_broken = _lines(path / "quarantine.jsonl")
    files = [path / EVALUATION, *sorted((path / "evaluation").glob(f"*/{EVALUATION}"))]
    evaluations = [_evaluated(file) for file in files if file.is_file()]
    if len(evaluations) > 1:  # looks on the way are of interest only until there is an evaluation
        evaluations = [one for one in evaluations if one.data != VALIDATION]
    return RunFolder(
        path=path,
        spec=_object(path / "spec.json"),
        data=_object(path / "data.json"),
        facts=_object(path / "facts.json") or {},
        log=log,
        quarantine=quarantine,
        evaluations=sorted(evaluations, key=lambda one: one.finished),
        unreadable=broken + also_broken,
    )


def _evaluated(file: Path) -> Evaluated:
    found = _object(file) or {}
    gallery = _object(file.with_name(GALLERY)) or {"items": [], "media": {}}
    try:
        return Evaluated(
            data=found["data"],
            description=found["description"],
            figures={
                task: {metric: Figure(**figure) for metric, figure in figures.items()}
                for task, figures in found["figures"].items()
            },
            counts=found["counts"],
            skipped=found["skipped"],
            notes=found["notes"],
            problems=found["problems"],
            seconds=found["seconds"],
            finished=found["finished"],
            items=gallery["items"],
            media=gallery["media"],
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"is not an evaluation: {error}", file=str(file)) from None


def _object(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"is not JSON: {error}", file=str(file)) from None
    if not isinstance(found, dict):
        raise DataError(f"expected a JSON object, found {type(found).__name__}", file=str(file))
    return found


def _lines(file: Path) -> tuple[list[dict[str, Any]], int]:
    """The JSON objects of a file of lines, and how many lines are none: a killed run leaves half a line."""
    if not file.is_file():
        return [], 0
    found, broken = [], 0
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if isinstance(value, dict):
            found.append(value)
        else:
            broken += 1
    return found, broken
