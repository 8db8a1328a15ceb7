"""The samples of one evaluation: drawn, decoded and checked once, and then shared by all tasks."""

from __future__ import annotations

import random
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from ..core import DataError, Modality, Sample, Segment
from .protocol import Progress, Source


class Material:
    """Usable samples, and what was left out.

    At most ``limit`` samples are drawn with ``seed``, in the order of the source. Their values are decoded
    and kept until ``memory`` bytes are used; further ones are checked but stay what they were (a path),
    to be read again by the model. A broken sample is left out and named in ``problems``. Segments of
    a modality that the model does not know are dropped and counted in ``unknown``.
    """

    def __init__(
        self,
        source: Source,
        modalities: Mapping[str, Modality],
        *,
        limit: int | None,
        memory: int,
        seed: int = 0,
        progress: Progress | None = None,
    ) -> None:
        self.samples: list[Sample] = []
        self.problems: list[DataError] = []
        self.unknown: Counter[str] = Counter()
        self._modalities, self._free = modalities, memory
        self._decoded: set[str] = set()
        drawn = _drawn(len(source), limit, seed)
        for done, index in enumerate(drawn, 1):
            try:
                self.samples.append(self._load(source[index]))
            except DataError as error:
                self.problems.append(error)
            if progress is not None:
                progress("reading", done, len(drawn))
        known = {tuple(error.record().items()) for error in self.problems}
        self.problems += [e for e in source.problems if tuple(e.record().items()) not in known]

    def combinations(self) -> dict[str, int]:
        """How many samples have which modalities, the most frequent first."""
        counts = Counter("+".join(sample.modalities()) for sample in self.samples)
        return dict(counts.most_common())

    def show(self, key: str, modality: str) -> str:
        """The HTML fragment of a sample's modality: of its content, else of its first segment."""
        sample = next(sample for sample in self.samples if sample.key == key)
        segment = sample.content(modality) or next(s for s in sample.segments if s.modality == modality)
        reader = self._modalities[modality]
        return reader.show(segment.value if key in self._decoded else reader.load_value(segment.value))

    def _load(self, sample: Sample) -> Sample:
        segments: list[Segment] = []
        for segment in sample.segments:
            reader = self._modalities.get(segment.modality)
            if reader is None:
                self.unknown[segment.modality] += 1
                continue
            try:
                segments.append(replace(segment, value=reader.load_value(segment.value)))
            except DataError as error:
                field = segment.field or segment.modality
                raise error.at(key=sample.key, file=sample.file, line=sample.line, field=field) from None
        size = sum(size_of(segment.value) for segment in segments)
        if size <= self._free:
            self._free -= size
            self._decoded.add(sample.key)
            return replace(sample, segments=tuple(segments))
        return replace(sample, segments=tuple(s for s in sample.segments if s.modality in self._modalities))


def size_of(raw: Any) -> int:
    """About how many bytes a decoded value takes."""
    if hasattr(raw, "nbytes"):
        return int(raw.nbytes)
    if hasattr(raw, "getbands") and hasattr(raw, "width"):  # a PIL image
        return int(raw.width * raw.height * len(raw.getbands()))
    if isinstance(raw, Mapping):
        return sum(map(size_of, raw.values()))
    if isinstance(raw, list | tuple):
        return sum(map(size_of, raw))
    if is_dataclass(raw) and not isinstance(raw, type):
        return sum(size_of(getattr(raw, part.name)) for part in fields(raw))
    return sys.getsizeof(raw)


def _drawn(length: int, limit: int | None, seed: int) -> Sequence[int]:
    if limit is None or length <= limit:
        return range(length)
    return sorted(random.Random(seed).sample(range(length), limit))
