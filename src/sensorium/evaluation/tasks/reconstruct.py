"""Restoring what was hidden: how much of it, and for a person to look at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from ...core import CapabilityError, Sample
from ..gallery import PARTS, Restored
from ..metrics import bootstrap
from ..protocol import TEXT, Compare, Predictor
from .task import Task, TaskResult, spread, subset


class Reconstruct(Task):
    """Parts of media hidden from the model and restored by it; ``shown`` of each modality are kept to be looked at.

    The figure is the share of what tells hidden values from the mean of the visible ones that was restored (0: no
    better than that mean). A model that predicts hidden parts only up to their mean and contrast has none.
    """

    name = "reconstruct"

    def __init__(self, limit: int | None = 64, shown: int = 6) -> None:
        self.limit, self.shown = limit, shown

    def applies(self, samples: Sequence[Sample], modalities: Iterable[str]) -> str | None:
        return None if _media(samples, modalities) else "no sample has media that the model knows"

    def run(
        self,
        predictor: Predictor,
        samples: Sequence[Sample],
        *,
        batch_size: int = 64,
        compare: Compare | None = None,
    ) -> list[TaskResult]:
        result, refused = TaskResult(self.name, {}), []
        for modality in _media(samples, predictor.modalities):
            chosen = subset([sample for sample in samples if sample.content(modality)], self.limit)
            try:
                self._restore(result, predictor, modality, chosen, batch_size)
            except CapabilityError as error:
                refused.append(error)
        if refused and not result.gallery:
            raise refused[0]
        return [result]

    def _restore(
        self,
        result: TaskResult,
        predictor: Predictor,
        modality: str,
        samples: Sequence[Sample],
        batch_size: int,
    ) -> None:
        """Add the figure, the records and the gallery of one modality."""
        values = [segment.value for sample in samples if (segment := sample.content(modality))]
        found = predictor.reconstruct(batch_size=batch_size, **{modality: values})
        shares = [one.explained for one in found if one.explained is not None]
        if shares:
            result.metrics[f"{modality} restored"] = bootstrap(torch.tensor(shares).double())
        else:
            result.notes.append(
                f"hidden parts of {modality} are shown with their true mean and contrast, which the model does not "
                "predict"
            )
        for sample, one in zip(samples, found, strict=True):
            result.records.append({"key": sample.key, "modality": modality, "restored": one.explained})
        show = predictor.modalities[modality].show
        for row in spread(range(len(samples)), self.shown):
            item = Restored(self.name, samples[row].key, modality, found[row].explained)
            parts = (getattr(found[row], part) for part in PARTS)
            shown = zip(item.places(), parts, strict=True)
            result.fragments.update({place: show(part) for place, part in shown})
            result.gallery.append(item)


def _media(samples: Sequence[Sample], modalities: Iterable[str]) -> list[str]:
    """The modalities, other than text, of which there is something."""
    return [name for name in modalities if name != TEXT and any(sample.content(name) for sample in samples)]
