"""All of a user's data before a model sees it: what is there, what is broken, what will be learnt."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import DataError, Modality, Sample, Segment, nearest
from .duplicates import Duplicates, Repeats, content_hash
from .histogram import Histogram
from .preflight_tables import render
from .sources.source import DEFAULT_SPLIT, Source
from .sources.values import TEXT

__all__ = ["Lesson", "Preflight", "inspect", "render"]

_MOST_LABELS = 20
_MOST_EXAMPLES = 5
_CHUNK = 256
_SHOWN = 80  # characters


@dataclass(frozen=True)
class Lesson:
    """What a model is trained to predict from one sample: its segments in order, one line each."""

    key: str
    lines: tuple[str, ...]


@dataclass
class Preflight:
    """What ``inspect`` found. Counts are of samples; broken files are counted where they were declared."""

    name: str
    samples: int
    decoded: int
    modalities: dict[str, int]
    combinations: dict[str, int]
    splits: dict[str, int]
    labels: dict[str, int]  # the most frequent
    classes: int
    sizes: dict[str, Histogram]
    examples: list[tuple[str, dict[str, str]]]  # key, and the size of each field of content
    duplicates: dict[str, Repeats]
    leaks: dict[str, Repeats]  # the same content, or group, in two splits
    broken: list[DataError]
    lessons: list[Lesson] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there are samples and nothing is broken."""
        return self.samples > 0 and not self.broken

    def to_json(self) -> dict[str, Any]:
        """All of it as a JSON object."""
        repeats = {
            name: {kind: {"count": found.count, "pairs": found.pairs} for kind, found in part.items()}
            for name, part in (("duplicates", self.duplicates), ("leaks", self.leaks))
        }
        return {
            "ok": self.ok,
            "name": self.name,
            "samples": self.samples,
            "decoded": self.decoded,
            "modalities": self.modalities,
            "combinations": self.combinations,
            "splits": self.splits,
            "labels": self.labels,
            "classes": self.classes,
            "sizes": {name: sizes.to_json() for name, sizes in self.sizes.items()},
            "examples": [{"key": key, "sizes": sizes} for key, sizes in self.examples],
            **repeats,
            "broken": [error.record() for error in self.broken],
            "lessons": [{"key": lesson.key, "lines": list(lesson.lines)} for lesson in self.lessons],
        }


def inspect(
    source: Source, modalities: Mapping[str, Modality], *, decode: int | None = None, predict: int = 3
) -> Preflight:
    """Read every sample, decode ``decode`` of them (None: all), spread evenly, and report.

    Of the samples that are not decoded, only the presence of their files is checked. ``predict``: for how
    many samples to say what a model will learn. A broken sample is reported; the rest goes on.
    """
    total = len(source)
    count = total if decode is None else min(decode, total)
    chosen = {index * total // count for index in range(count)}
    modality_counts: Counter[str] = Counter()
    combinations: Counter[str] = Counter()
    splits: Counter[str] = Counter()
    labels: Counter[str] = Counter()
    sizes: dict[str, array[float]] = {}
    units: dict[str, str] = {}
    examples: list[tuple[str, dict[str, str]]] = []
    lessons: list[Lesson] = []
    broken = list(source.problems)
    duplicates = Duplicates()
    for look in _looks(source, modalities, chosen):
        broken += look.errors
        sample = look.sample
        if sample is None:
            continue
        split = sample.split or DEFAULT_SPLIT
        present = sorted(sample.modalities(), key=lambda name: _place(name, modalities))
        modality_counts.update(present)
        combinations["+".join(present)] += 1
        splits[split] += 1
        if "label" in sample.labels:
            labels[str(sample.labels["label"])] += 1
        if sample.group is not None:
            duplicates.add_group(sample.group, key=sample.key, split=split)
        for name, digest in look.digests:
            duplicates.add(name, digest, key=sample.key, split=split)
        for segment, size, unit in look.sizes:
            sizes.setdefault(segment.modality, array("d")).append(size)
            units[segment.modality] = unit
        if look.sizes and len(examples) < _MOST_EXAMPLES:
            shown = {
                segment.field or segment.modality: f"{size:.3g} {unit}"
                for segment, size, unit in look.sizes
                if segment.role == "content"
            }
            examples.append((sample.key, shown))
        if len(lessons) < predict:
            lessons.append(Lesson(sample.key, tuple(_lesson(sample))))
    return Preflight(
        name=source.name,
        samples=total,
        decoded=count,
        modalities=dict(modality_counts.most_common()),
        combinations=dict(combinations.most_common()),
        splits=dict(splits.most_common()),
        labels=dict(labels.most_common(_MOST_LABELS)),
        classes=len(labels),
        sizes={name: Histogram.of(found, units[name]) for name, found in sizes.items()},
        examples=examples,
        duplicates=duplicates.repeats,
        leaks=duplicates.leaks,
        broken=broken,
        lessons=lessons,
    )


@dataclass
class _Look:
    """What one sample showed."""

    sample: Sample | None
    errors: list[DataError] = field(default_factory=list)
    sizes: list[tuple[Segment, float, str]] = field(default_factory=list)
    digests: list[tuple[str, bytes]] = field(default_factory=list)


def _looks(source: Source, modalities: Mapping[str, Modality], chosen: set[int]) -> Iterator[_Look]:
    """One look per sample, in order; threads decode a chunk at a time, so that memory stays bounded."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(source), _CHUNK):
            indices = range(start, min(start + _CHUNK, len(source)))
            yield from pool.map(lambda index: _look(source, index, modalities, index in chosen), indices)


def _look(source: Source, index: int, modalities: Mapping[str, Modality], decode: bool) -> _Look:
    try:
        look = _Look(sample := source[index])
    except DataError as error:
        return _Look(None, [error])
    for segment in sample.segments:
        try:
            if segment.modality not in modalities:
                raise DataError(
                    f"unknown modality {segment.modality!r}{nearest(segment.modality, modalities)}"
                )
            if decode:
                _decode(look, segment, modalities[segment.modality])
            elif isinstance(segment.value, Path) and not segment.value.is_file():
                raise DataError(f"file not found: {segment.value}")
        except DataError as error:
            place = {"key": sample.key, "file": sample.file, "field": segment.field}
            look.errors.append(error.at(**place, line=sample.line))
    return look


def _decode(look: _Look, segment: Segment, modality: Modality) -> None:
    raw = modality.load_value(segment.value)
    look.sizes.append((segment, *modality.size(raw)))
    # Questions and class names come back by their nature; captions and media should not.
    if segment.modality != TEXT or (segment.role == "content" and segment.field != "label"):
        value = segment.value
        path = isinstance(value, str) and not modality.inline
        look.digests.append((segment.modality, content_hash(Path(value) if path else value)))


def _place(name: str, modalities: Mapping[str, Modality]) -> tuple[bool, int]:
    """The order in which a combination is written: text last, the others as they were given."""
    names = list(modalities)
    return name == TEXT, names.index(name) if name in names else len(names)


def _lesson(sample: Sample) -> Iterator[str]:
    for segment in sample.segments:
        turn = f"turn {segment.turn}: " if segment.turn else ""
        what = "predict" if segment.target else "given"
        role = "" if segment.role == "content" else f" of the {segment.role}"
        yield f"{turn}{what} the {segment.modality}{role}: {_shown(segment.value)}"
    if not any(segment.target for segment in sample.segments):
        yield "nothing to predict: only objectives without target text, such as contrast, can use this sample"


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, str):
        return repr(value if len(value) <= _SHOWN else value[: _SHOWN - 3] + "...")
    return str(value) if isinstance(value, Path) else f"a value of type {type(value).__name__}"
