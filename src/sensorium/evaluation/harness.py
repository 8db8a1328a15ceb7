"""The harness: put a model to all tasks on one source of data, and keep what was found."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core import CapabilityError, ConfigError, DataError
from .files import write_atomic
from .gallery import Item, Place, select
from .material import Material
from .metrics import Figure
from .protocol import Compare, Predictor, Progress, Source
from .tasks import Task, TaskResult, default_tasks

EVALUATION, SAMPLES, GALLERY = "evaluation.json", "samples.jsonl", "gallery.json"
_LARGEST_FRAGMENT = 500_000  # characters of HTML for one item to look at
_GALLERY_SIZE = 3_100_000  # characters of HTML: two data sets fit on one page
_KEPT_PROBLEMS = 1000  # named in evaluation.json; all are counted


@dataclass(frozen=True)
class Evaluation:
    """What a model did on one data set.

    ``figures`` are by task and metric, ``records`` one JSON object per example and task, ``skipped`` says
    why a task was not asked, ``media`` holds HTML fragments by sample key and modality.
    """

    data: str
    description: str
    figures: Mapping[str, Mapping[str, Figure]]
    records: Sequence[Mapping[str, Any]]
    gallery: Sequence[Item]
    media: Mapping[str, Mapping[str, str]]
    counts: Mapping[str, Any]
    skipped: Mapping[str, str]
    notes: Sequence[str]
    problems: Sequence[DataError]
    seconds: float
    finished: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))

    def flat(self) -> dict[str, float]:
        """The values alone, by "task metric", for example ``image-text R@1``."""
        return {
            f"{task} {metric}": figure.value
            for task, figures in self.figures.items()
            for metric, figure in figures.items()
        }

    def to_json(self) -> dict[str, Any]:
        """All but the records, the gallery and the media."""
        return {
            "data": self.data,
            "description": self.description,
            "figures": {
                task: {metric: figure.to_json() for metric, figure in figures.items()}
                for task, figures in self.figures.items()
            },
            "counts": dict(self.counts),
            "skipped": dict(self.skipped),
            "notes": list(self.notes),
            "problems": [error.record() for error in self.problems[:_KEPT_PROBLEMS]],
            "seconds": round(self.seconds, 2),
            "finished": self.finished,
        }

    def write(self, directory: Path) -> Path:
        """Write ``evaluation.json``, ``samples.jsonl`` and ``gallery.json``, whole; returns the first."""
        lines = [json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n" for record in self.records]
        write_atomic(directory / SAMPLES, "".join(lines))
        gallery = {"items": [item.to_json() for item in self.gallery], "media": self.media}
        write_atomic(directory / GALLERY, json.dumps(gallery, ensure_ascii=False, allow_nan=False))
        text = json.dumps(self.to_json(), indent=2, ensure_ascii=False, allow_nan=False)
        return write_atomic(directory / EVALUATION, text + "\n")


def evaluate(
    predictor: Predictor,
    source: Source,
    *,
    name: str = "test",
    description: str = "",
    tasks: Sequence[Task] | None = None,
    limit: int | None = 1000,
    batch_size: int = 64,
    compare: Compare | None = None,
    gallery: int = 200,
    memory: int = 1 << 30,
    seed: int = 0,
    progress: Progress | None = None,
) -> Evaluation:
    """Put ``predictor`` to ``tasks`` (by default all) on at most ``limit`` samples of ``source``.

    Args:
        name: of the data set, for the report; ``description`` says in a few words what is special about it.
        compare: judges captions by ``labels["attributes"]``.
        gallery: of at most how many samples the media are kept for people to look at.
        memory: bytes of decoded values to hold; beyond that, values are read again when needed.
        seed: which samples are drawn.

    Broken samples, and tasks that do not apply, are named in the result. Raises ConfigError if no
    sample is usable, CheckpointError if the model returns values that are not finite.
    """
    start = time.monotonic()
    material = Material(
        source, predictor.modalities, limit=limit, memory=memory, seed=seed, progress=progress
    )
    if not material.samples:
        first = f", first: {material.problems[0]}" if material.problems else ""
        found = f"{len(source)} samples, {len(material.problems)} problems{first}"
        raise ConfigError(f"{name}: there is nothing to evaluate ({found})")
    chosen = default_tasks() if tasks is None else tasks
    results: list[TaskResult] = []
    skipped: dict[str, str] = {}
    for done, task in enumerate(chosen):
        if progress is not None:
            progress(task.name, done, len(chosen))
        reason = task.applies(material.samples, predictor.modalities)
        if reason is None:
            try:
                results += task.run(predictor, material.samples, batch_size=batch_size, compare=compare)
            except CapabilityError as error:
                reason = str(error)
        if reason is not None:
            skipped[task.name] = reason
    if progress is not None:
        progress("done", len(chosen), len(chosen))
    problems = [*material.problems, *(error for result in results for error in result.problems)]
    made = {place: html for result in results for place, html in result.fragments.items()}
    fragments = _Fragments(material, made)
    items = select(
        [result.gallery for result in results], samples=gallery, cost=fragments.cost, budget=_GALLERY_SIZE
    )
    return Evaluation(
        data=name,
        description=description,
        figures={result.name: result.metrics for result in results if result.metrics},
        records=[{"task": result.name} | record for result in results for record in result.records],
        gallery=items,
        media=fragments.of(items),
        counts={
            "in the data": len(source),
            "evaluated": len(material.samples),
            "left out": len(problems),
            "combinations": material.combinations(),
        },
        skipped=skipped,
        notes=_notes(material, results),
        problems=problems,
        seconds=time.monotonic() - start,
    )


class _Fragments:
    """The HTML fragments of media, those ``made`` by tasks and those of samples; each once. One that is too large for
    a page is empty and costs nothing.
    """

    def __init__(self, material: Material, made: Mapping[Place, str]) -> None:
        self._material = material
        self._made = {place: _shown(fragment) for place, fragment in made.items()}

    def cost(self, place: Place) -> int:
        if place not in self._made:
            self._made[place] = _shown(self._material.show(*place))
        return len(self._made[place])

    def of(self, items: Sequence[Item]) -> dict[str, dict[str, str]]:
        """By sample key and modality, those that the items need."""
        media: dict[str, dict[str, str]] = {}
        for key, modality in dict.fromkeys(place for item in items for place in item.places()):
            if fragment := self._made[key, modality]:
                media.setdefault(key, {})[modality] = fragment
        return media


def _shown(fragment: str) -> str:
    return fragment if len(fragment) <= _LARGEST_FRAGMENT else ""


def _notes(material: Material, results: Sequence[TaskResult]) -> list[str]:
    notes = [
        f"the model does not know {name}: {count} segments were left out"
        for name, count in material.unknown.items()
    ]
    return list(dict.fromkeys(notes + [note for result in results for note in result.notes]))
