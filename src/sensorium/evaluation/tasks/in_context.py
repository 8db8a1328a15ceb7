"""In-context learning: things named in the prompt by names that mean nothing, then one more to be named."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from ...core import ConfigError, Sample, Segment
from ..metrics import bootstrap, exact_match
from ..protocol import TEXT, Compare, Predictor
from .task import Task, TaskResult, inputs, label, subset

#: Names that no vocabulary of the world has.
NAMES = ("dax", "wug", "blick", "toma", "fep", "zib", "koba", "nim")
QUESTION = "what is it called?"


class InContext(Task):
    """Accuracy with 0, 2, 8, 32 demonstrations: media, questions and answers of other samples, interleaved, before
    the one that is asked about (the evaluation of Flamingo, Alayrac et al. 2022, arXiv:2204.14198; names as in fast
    mapping, Tsimpoukelli et al. 2021, arXiv:2106.13884).

    Each question is about ``ways`` classes, drawn anew with new names, so that nothing but the demonstrations can tell
    the right one: without any, no answer is better than chance. The same classes, names and order of demonstrations
    serve all numbers of ``shots``. ``limit`` counts questions. Raises ConfigError for shots and ways that cannot be.
    """

    name = "in context"

    def __init__(
        self, shots: Sequence[int] = (0, 2, 8, 32), ways: int = 2, limit: int = 100, max_new_tokens: int = 8
    ) -> None:
        if not shots or min(shots) < 0:
            raise ConfigError(f"shots must be one or more numbers of at least 0, found {list(shots)}")
        if not 2 <= ways <= len(NAMES):
            raise ConfigError(f"ways must be from 2 to {len(NAMES)}, found {ways}")
        self.shots, self.ways, self.limit, self.max_new_tokens = tuple(shots), ways, limit, max_new_tokens

    def applies(self, samples: Sequence[Sample], modalities: Iterable[str]) -> str | None:
        known = set(modalities)
        if TEXT not in known:
            return "the model knows no text"
        if len(_classes(samples, known)) < self.ways:
            return f"fewer than {self.ways} classes have media that the model knows"
        return None

    def run(
        self,
        predictor: Predictor,
        samples: Sequence[Sample],
        *,
        batch_size: int = 64,
        compare: Compare | None = None,
    ) -> list[TaskResult]:
        classes = _classes(samples, set(predictor.modalities))
        members = [one for group in classes.values() for one in group]
        asked = subset(members, self.limit)
        result = TaskResult(self.name, {}, notes=[f"chance is {1 / self.ways:.2f}, of {self.ways} names"])
        for count in self.shots:
            prompts, expected = zip(*(self._prompt(one, classes, count) for one in asked), strict=True)
            size = max(1, batch_size // (1 + count))
            found = predictor.complete(prompts, max_new_tokens=self.max_new_tokens, batch_size=size)
            right = exact_match(found, list(expected))
            result.metrics[f"accuracy, {count} shots"] = bootstrap(right)
            for sample, text, name, correct in zip(asked, found, expected, right.tolist(), strict=True):
                record = {"key": sample.key, "shots": count, "expected": name, "found": text}
                result.records.append(record | {"right": correct == 1})
        return [result]

    def _prompt(
        self, asked: Sample, classes: Mapping[str, Sequence[Sample]], count: int
    ) -> tuple[Sample, str]:
        """The question after its demonstrations, and the right name."""
        draw = random.Random(f"in context {asked.key}")
        own = str(label(asked))
        chosen = [own, *draw.sample(sorted(classes.keys() - {own}), self.ways - 1)]
        names = dict(zip(chosen, draw.sample(NAMES, self.ways), strict=True))
        shown: list[tuple[Sample, str]] = []
        while len(shown) < max(self.shots):  # in rounds of all classes, each in a new order
            for one in draw.sample(chosen, self.ways):
                others = [sample for sample in classes[one] if sample.key != asked.key]
                shown.append((draw.choice(others), names[one]))
        segments = [
            segment
            for sample, name in shown[:count]
            for segment in (*_asked(sample), Segment(TEXT, name, role="assistant", turn=1))
        ]
        return replace(asked, segments=(*segments, *_asked(asked))), names[own]


def _asked(sample: Sample) -> list[Segment]:
    """The media of a sample and the question, as a user gives them."""
    media = [replace(segment, role="user", turn=1) for segment in inputs(sample) if segment.modality != TEXT]
    return [*media, Segment(TEXT, QUESTION, role="user", turn=1)]


def _classes(samples: Sequence[Sample], modalities: set[str]) -> dict[str, list[Sample]]:
    """The samples of each class that has at least two with media that the model knows."""
    found: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        kind = label(sample)
        if kind is not None and any(one.modality in modalities - {TEXT} for one in inputs(sample)):
            found[kind].append(sample)
    return {kind: group for kind, group in found.items() if len(group) > 1}
