"""Captioning: the text of a sample generated from each of its modalities alone, and from all together."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from ...core import Sample, Segment
from ..gallery import Completion
from ..metrics import bootstrap, exact_match, token_f1
from ..protocol import TEXT, Compare, Predictor
from .task import Example, Scored, TaskResult, inputs, spread, subset, withhold

TOGETHER = "together"


class Caption(Scored):
    """Exact match and token F1 of the generated caption, and which attributes it states rightly.

    Attributes are judged by the caller's ``compare`` for samples with ``labels["attributes"]``. ``shown``
    completions of each kind of input go to the gallery.
    """

    name = "caption"

    def __init__(self, limit: int | None = 500, max_new_tokens: int = 64, shown: int = 6) -> None:
        self.limit, self.max_new_tokens, self.shown = limit, max_new_tokens, shown

    def applies(self, samples: Sequence[Sample], modalities: Iterable[str]) -> str | None:
        if TEXT not in set(modalities):
            return "the model knows no text"
        if not any(_wanted(sample) for sample in samples):
            return "no sample has a text to be generated (a target) from something else"
        return None

    def run(
        self,
        predictor: Predictor,
        samples: Sequence[Sample],
        *,
        batch_size: int = 64,
        compare: Compare | None = None,
    ) -> list[TaskResult]:
        samples = self._examples(samples)
        records: list[dict[str, Any]] = [
            {"key": s.key, "expected": _expected(s), "found": {}} for s in samples
        ]
        result = TaskResult(self.name, {}, records)
        alone = list(dict.fromkeys(s.modality for sample in samples for s in inputs(sample)))
        several = [i for i, sample in enumerate(samples) if len(_modalities(sample)) > 1]
        if several:
            self._measure(result, predictor, samples, several, TOGETHER, batch_size, compare)
        for modality in alone:
            rows = [i for i, sample in enumerate(samples) if modality in _modalities(sample)]
            self._measure(result, predictor, samples, rows, modality, batch_size, compare)
        return [result]

    def score(
        self,
        predictor: Predictor,
        samples: Sequence[Sample],
        *,
        withheld: Collection[str] = (),
        batch_size: int = 64,
        compare: Compare | None = None,
    ) -> dict[Example, float]:
        samples = [sample for sample in withhold(self._examples(samples), withheld) if inputs(sample)]
        found = self._complete(predictor, samples, TOGETHER, batch_size)
        right = exact_match(found, [_expected(sample) for sample in samples]).tolist()
        return {
            (sample.key, 0): float(_parts(compare, text, sample).get("all", same))
            for sample, text, same in zip(samples, found, right, strict=True)
        }

    def _measure(
        self,
        result: TaskResult,
        predictor: Predictor,
        samples: Sequence[Sample],
        rows: Sequence[int],
        given: str,
        batch_size: int,
        compare: Compare | None,
    ) -> None:
        """Add the figures for one kind of input to the result; ``rows`` are the samples that have it."""
        chosen = [samples[i] for i in rows]
        found = self._complete(predictor, chosen, given, batch_size)
        expected = [_expected(sample) for sample in chosen]
        exact = exact_match(found, expected)
        parts = [_parts(compare, text, sample) for text, sample in zip(found, chosen, strict=True)]
        names = list(dict.fromkeys(name for part in parts for name in part))
        # what a caption says comes before how it says it, where that can be judged
        for name in sorted(names, key=lambda name: name != "all"):
            values = torch.tensor([float(part[name]) for part in parts if name in part])
            metric = "all attributes" if name == "all" else name
            result.metrics[f"{given} {metric}"] = bootstrap(values)
        result.metrics[f"{given} exact match"] = bootstrap(exact)
        result.metrics[f"{given} token F1"] = bootstrap(token_f1(found, expected))
        for i, text, part in zip(rows, found, parts, strict=True):
            result.records[i]["found"][given] = {"text": text} | ({"right": dict(part)} if part else {})
        result.gallery.extend(
            Completion(
                task=self.name,
                key=chosen[i].key,
                inputs=_modalities(chosen[i]) if given == TOGETHER else (given,),
                prompt="",
                expected=expected[i],
                found=found[i],
                right=bool(parts[i].get("all", exact[i] == 1)),
                parts={name: value for name, value in parts[i].items() if name != "all"},
            )
            for i in spread(range(len(chosen)), self.shown)
        )

    def _complete(
        self, predictor: Predictor, samples: Sequence[Sample], given: str, batch_size: int
    ) -> list[str]:
        prompts = [
            replace(s, segments=tuple(part for part in inputs(s) if given in (TOGETHER, part.modality)))
            for s in samples
        ]
        return predictor.complete(prompts, max_new_tokens=self.max_new_tokens, batch_size=batch_size)

    def _examples(self, samples: Sequence[Sample]) -> list[Sample]:
        return subset([sample for sample in samples if _wanted(sample)], self.limit)


def _target(sample: Sample) -> Segment | None:
    segments = (s for s in sample.segments if s.modality == TEXT and s.role == "content" and s.target)
    return next(segments, None)


def _wanted(sample: Sample) -> bool:
    return _target(sample) is not None and bool(inputs(sample))


def _expected(sample: Sample) -> str:
    target = _target(sample)
    assert target is not None
    return str(target.value)


def _modalities(sample: Sample) -> tuple[str, ...]:
    return tuple(dict.fromkeys(segment.modality for segment in inputs(sample)))


def _parts(compare: Compare | None, caption: str, sample: Sample) -> Mapping[str, bool]:
    attributes = sample.labels.get("attributes")
    return {} if compare is None or attributes is None else compare(caption, attributes)
