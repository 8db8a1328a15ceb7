"""Zero-shot classification of every modality that can be embedded, by the names of the classes alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ...core import CapabilityError, CheckpointError, ConfigError, Sample
from ..gallery import Confusion, Mistake
from ..metrics import bootstrap, confusion, correct, per_class
from ..protocol import TEXT, Compare, Predictor
from .task import Example, Scored, TaskResult, label, subset, withhold

PLAIN = "{}"
_MOST_SHOWN = 40  # labels of a confusion matrix that a person can read


class Classify(Scored):
    """Accuracy of the most probable label, for each modality alone.

    The classes are the labels of the samples, or ``labels``; samples of other labels are then left out.
    With ``templates``, their ensemble is measured beside the bare label. The ``score`` goes by the mean of
    the modalities' probabilities. Raises ConfigError for a template without ``{}``.
    """

    name = "classify"

    def __init__(
        self,
        templates: Sequence[str] = (),
        labels: Sequence[str] | None = None,
        limit: int | None = 2000,
        mistakes: int = 8,
    ) -> None:
        for template in templates:
            if PLAIN not in template:
                raise ConfigError(f"the template {template!r} has no {PLAIN} for the label")
        self.templates, self.labels, self.limit, self.mistakes = tuple(templates), labels, limit, mistakes

    def applies(self, samples: Sequence[Sample], modalities: Iterable[str]) -> str | None:
        known = set(modalities)
        if TEXT not in known:
            return "the model knows no text, by which classes are named"
        labelled = self._examples(samples)
        if not labelled:
            return "no sample has a label" + (" of those asked for" if self.labels else "")
        if len(self._labels(labelled)) < 2:
            return f"all samples have the same label, {label(labelled[0])!r}"
        if not any(sample.content(name) for sample in labelled for name in known - {TEXT}):
            return "no labelled sample has a modality, other than text, that the model knows"
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
        labels = self._labels(samples)
        records: list[dict[str, Any]] = [
            {"key": sample.key, "expected": label(sample), "found": {}} for sample in samples
        ]
        result = TaskResult(self.name, {}, records)
        refused: list[CapabilityError] = []
        for modality in _present(samples, predictor.modalities):
            rows = [i for i, sample in enumerate(samples) if sample.content(modality)]
            try:
                self._measure(result, predictor, samples, modality, rows, labels)
            except CapabilityError as error:
                refused.append(error)
                result.notes.append(f"{modality} was left out: {error}")
        if refused and not result.metrics:
            raise refused[0]
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
        samples = self._examples(samples)
        labels = self._labels(samples)
        samples = withhold(samples, withheld)
        total = torch.zeros(len(samples), len(labels))
        seen = torch.zeros(len(samples), dtype=torch.bool)
        for modality in _present(samples, predictor.modalities):
            rows = [i for i, sample in enumerate(samples) if sample.content(modality)]
            total[rows] += _probabilities(predictor, [samples[i] for i in rows], modality, labels, (PLAIN,))
            seen[rows] = True
        best = [labels[index] for index in total.argmax(dim=1).tolist()]
        return {
            (sample.key, 0): float(guess == label(sample))
            for sample, guess, known in zip(samples, best, seen.tolist(), strict=True)
            if known
        }

    def _measure(
        self,
        result: TaskResult,
        predictor: Predictor,
        samples: Sequence[Sample],
        modality: str,
        rows: Sequence[int],
        labels: Sequence[str],
    ) -> None:
        """Add one modality's figures to the result; ``rows`` are the samples that have it."""
        chosen = [samples[i] for i in rows]
        truth = torch.tensor([labels.index(str(label(sample))) for sample in chosen])
        chance = 1 / len(labels)
        confidence, guess = _probabilities(predictor, chosen, modality, labels, (PLAIN,)).max(dim=1)
        result.metrics[f"{modality} accuracy"] = bootstrap(correct(guess, truth)).against(chance)
        if self.templates:
            several = _probabilities(predictor, chosen, modality, labels, self.templates).argmax(dim=1)
            name = f"{modality} accuracy, {len(self.templates)} templates"
            result.metrics[name] = bootstrap(correct(several, truth)).against(chance)
        for i, index, sure in zip(rows, guess.tolist(), confidence.tolist(), strict=True):
            result.records[i]["found"][modality] = {"label": labels[index], "confidence": round(sure, 4)}
        if len(labels) <= _MOST_SHOWN:
            result.gallery.append(_confusion(modality, labels, guess, truth))
        wrong = (guess != truth).nonzero().flatten()
        surest = wrong[confidence[wrong].argsort(descending=True, stable=True)].tolist()[: self.mistakes]
        result.gallery.extend(
            Mistake(
                task=self.name,
                key=chosen[i].key,
                modality=modality,
                expected=str(label(chosen[i])),
                found=labels[int(guess[i])],
                confidence=round(confidence[i].item(), 4),
            )
            for i in surest
        )

    def _examples(self, samples: Sequence[Sample]) -> list[Sample]:
        known = None if self.labels is None else set(self.labels)
        named = [s for s in samples if (name := label(s)) is not None and (known is None or name in known)]
        return subset(named, self.limit)

    def _labels(self, samples: Sequence[Sample]) -> list[str]:
        return list(self.labels) if self.labels else sorted({name for s in samples if (name := label(s))})


def _present(samples: Sequence[Sample], modalities: Iterable[str]) -> list[str]:
    """The known modalities, other than text, that some sample has."""
    return [name for name in modalities if name != TEXT and any(s.content(name) for s in samples)]


def _probabilities(
    predictor: Predictor,
    samples: Sequence[Sample],
    modality: str,
    labels: Sequence[str],
    templates: Sequence[str],
) -> Float[Tensor, "samples labels"]:
    values = [segment.value for sample in samples if (segment := sample.content(modality))]
    found = predictor.classify(labels, templates, **{modality: values}).detach().float().cpu()
    if not bool(found.isfinite().all()):
        raise CheckpointError(f"the probabilities for {modality} are not finite: the weights are damaged")
    return found


def _confusion(modality: str, labels: Sequence[str], guess: Tensor, truth: Tensor) -> Confusion:
    matrix = confusion(guess, truth, classes=len(labels))
    figures = per_class(matrix)
    return Confusion(
        task=Classify.name,
        modality=modality,
        labels=tuple(labels),
        counts=tuple(map(tuple, matrix.tolist())),
        precision=tuple(figures["precision"].tolist()),
        recall=tuple(figures["recall"].tolist()),
        f1=tuple(figures["f1"].tolist()),
    )
