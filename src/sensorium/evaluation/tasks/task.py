"""What a task is: it picks its examples from the samples, asks the model, and scores the answers."""

from __future__ import annotations

import abc
import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from ...core import DataError, Sample, Segment
from ..gallery import Item, Place
from ..metrics import Figure
from ..protocol import TEXT, Compare, Predictor

#: One example of a sample: the sample's key and, for a question, its place among the sample's questions.
Example = tuple[str, int]


@dataclass(frozen=True)
class TaskResult:
    """What a task found. The first of ``metrics`` is the one to put on a front page.

    ``records`` hold one JSON object per example, ``notes`` what a reader should know, ``problems`` the
    samples that this task could not use, ``fragments`` the HTML of what the gallery shows besides the samples.
    """

    name: str
    metrics: dict[str, Figure]
    records: list[dict[str, Any]] = field(default_factory=list)
    gallery: list[Item] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    problems: list[DataError] = field(default_factory=list)
    fragments: dict[Place, str] = field(default_factory=dict)


class Task(abc.ABC):
    """One kind of question to a model, with its own examples and scoring."""

    name: ClassVar[str]

    @abc.abstractmethod
    def applies(self, samples: Sequence[Sample], modalities: Iterable[str]) -> str | None:
        """Why this task cannot be asked of these samples and a model of these modalities; None if it can."""

    @abc.abstractmethod
    def run(
        self,
        predictor: Predictor,
        samples: Sequence[Sample],
        *,
        batch_size: int = 64,
        compare: Compare | None = None,
    ) -> list[TaskResult]:
        """The results, one per thing measured. Samples hold values that the model accepts.

        Raises CapabilityError if the model cannot do what is asked, CheckpointError if what it
        returns is not finite.
        """


class Scored(Task):
    """A task with one score in [0, 1] per example, measurable without a modality."""

    @abc.abstractmethod
    def score(
        self,
        predictor: Predictor,
        samples: Sequence[Sample],
        *,
        withheld: Collection[str] = (),
        batch_size: int = 64,
        compare: Compare | None = None,
    ) -> dict[Example, float]:
        """The score of every example, given all that its sample holds.

        With ``withheld`` modalities, of every example that had one of them and is left with something else.
        """


def subset(samples: Sequence[Sample], limit: int | None) -> list[Sample]:
    """At most ``limit`` samples, drawn with a fixed seed, in their order."""
    if limit is None or len(samples) <= limit:
        return list(samples)
    return [samples[index] for index in sorted(random.Random(0).sample(range(len(samples)), limit))]


def spread(indices: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of ``indices``, at even distances."""
    if len(indices) <= count:
        return list(indices)
    return [indices[i * len(indices) // count] for i in range(count)]


def withhold(samples: Sequence[Sample], modalities: Collection[str]) -> list[Sample]:
    """The samples that have one of the modalities, without them; all samples if none are named."""
    if not modalities:
        return list(samples)
    return [
        replace(sample, segments=tuple(s for s in sample.segments if s.modality not in modalities))
        for sample in samples
        if not set(modalities).isdisjoint(sample.modalities())
    ]


def media(sample: Sample) -> tuple[str, ...]:
    """The modalities of a sample other than text."""
    return tuple(name for name in sample.modalities() if name != TEXT)


def inputs(sample: Sample) -> tuple[Segment, ...]:
    """The content segments that a model may go by: those that it is not asked to produce."""
    return tuple(s for s in sample.segments if s.role == "content" and not s.target)


def label(sample: Sample) -> str | None:
    """The class of a sample as text, or None."""
    value = sample.labels.get("label")
    return None if value is None else str(value)
