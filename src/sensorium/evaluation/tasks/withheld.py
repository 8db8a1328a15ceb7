"""Modality reliance: what becomes of an answer when the model does not get one of the modalities."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch

from ...core import CapabilityError, Sample
from ..gallery import Reliance
from ..metrics import bootstrap, paired_difference
from ..protocol import Compare, Predictor
from .answer import Answer
from .caption import Caption
from .classify import Classify
from .task import Example, Scored, Task, TaskResult, media, subset


class Withheld(Task):
    """The score of other tasks with each modality withheld in turn, and with no media at all.

    A withheld modality is absent, not zeros. The drop is measured on the same examples, pair by pair; a
    drop of 0 says that the model does as well without. Examples that have nothing left to go by are left
    out; a question is always left, and its score without any media says how far guessing carries.
    """

    name = "withheld"

    def __init__(self, tasks: Sequence[Scored] | None = None, limit: int | None = 200) -> None:
        self.tasks = [Caption(), Answer(), Classify()] if tasks is None else list(tasks)
        self.limit = limit

    def applies(self, samples: Sequence[Sample], modalities: Iterable[str]) -> str | None:
        known = set(modalities)
        reasons = [f"{task.name}: {why}" for task in self.tasks if (why := task.applies(samples, known))]
        return "; ".join(reasons) if len(reasons) == len(self.tasks) else None

    def run(
        self,
        predictor: Predictor,
        samples: Sequence[Sample],
        *,
        batch_size: int = 64,
        compare: Compare | None = None,
    ) -> list[TaskResult]:
        samples = subset([sample for sample in samples if media(sample)], self.limit)
        result = TaskResult(self.name, {})
        refused: list[CapabilityError] = []
        for task in self.tasks:
            if task.applies(samples, predictor.modalities) is None:
                try:
                    self._measure(result, task, predictor, samples, batch_size, compare)
                except CapabilityError as error:
                    refused.append(error)
                    result.notes.append(f"{task.name} was left out: {error}")
        if refused and not result.metrics:
            raise refused[0]
        return [result]

    def _measure(
        self,
        result: TaskResult,
        task: Scored,
        predictor: Predictor,
        samples: Sequence[Sample],
        batch_size: int,
        compare: Compare | None,
    ) -> None:
        """Add the figures of one task to the result."""
        full = task.score(predictor, samples, batch_size=batch_size, compare=compare)
        present = list(dict.fromkeys(name for sample in samples for name in media(sample)))
        withheld = {name: [name] for name in present}
        if len(present) > 1:
            withheld["any media"] = present
        for name, dropped in withheld.items():
            rest = task.score(predictor, samples, withheld=dropped, batch_size=batch_size, compare=compare)
            if rest:
                reliance = _reliance(task.name, name, full, rest)
                result.gallery.append(reliance)
                result.metrics[f"{task.name} without {name}"] = reliance.without
                result.metrics[f"{task.name} drop without {name}"] = reliance.drop


def _reliance(
    task: str, withheld: str, full: Mapping[Example, float], rest: Mapping[Example, float]
) -> Reliance:
    keys: dict[str, int] = {}
    groups = torch.tensor([keys.setdefault(key, len(keys)) for key, _ in rest])
    poorer = torch.tensor(list(rest.values()))
    whole = torch.tensor([full[example] for example in rest])
    return Reliance(
        task=task,
        withheld=withheld,
        complete=bootstrap(whole, groups=groups),
        without=bootstrap(poorer, groups=groups),
        drop=paired_difference(whole, poorer, groups=groups),
    )
