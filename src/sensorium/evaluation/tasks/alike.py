"""Neighbours within one modality: what a model takes for alike that has nothing else to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...core import CapabilityError, Sample
from ..gallery import Neighbour, Neighbours
from ..metrics import Figure, bootstrap, nearest
from ..protocol import Compare, Predictor
from .retrieval import concepts_of, embedded, pairs_of
from .task import Task, TaskResult, label, spread, subset

_SHOWN = 5  # neighbours of a shown query
_LEAST = 2  # samples below which there is nothing to choose from


class Alike(Task):
    """The nearest other samples of the same modality; ``shown`` queries are kept to be looked at.

    Where samples have labels, how often the nearest has the same one (one-nearest-neighbour accuracy). A modality that
    comes with another one that the model knows is left to retrieval.
    """

    name = "alike"

    def __init__(self, limit: int | None = 2000, shown: int = 6) -> None:
        self.limit, self.shown = limit, shown

    def applies(self, samples: Sequence[Sample], modalities: Iterable[str]) -> str | None:
        if not any(sum(s.content(name) is not None for s in samples) >= _LEAST for name in modalities):
            return f"fewer than {_LEAST} samples hold a modality that the model knows"
        return None

    def run(
        self,
        predictor: Predictor,
        samples: Sequence[Sample],
        *,
        batch_size: int = 64,
        compare: Compare | None = None,
    ) -> list[TaskResult]:
        samples = subset(samples, self.limit)
        result, refused = TaskResult(self.name, {}), []
        for modality, rows in _rows(samples, predictor.modalities).items():
            chosen = [samples[row] for row in rows]
            try:
                vectors = embedded(predictor, chosen, modality, batch_size)
            except CapabilityError as error:
                refused.append(error)
                result.notes.append(f"{modality} was left out: {error}")
                continue
            self._compare(result, modality, chosen, *_others(vectors))
        if refused and not result.gallery:
            raise refused[0]
        return [result] if result.gallery else []

    def _compare(
        self,
        result: TaskResult,
        modality: str,
        samples: Sequence[Sample],
        scores: Float[Tensor, "n k"],
        found: Int[Tensor, "n k"],
    ) -> None:
        """Add the figure, the records and the gallery of one modality."""
        concept = concepts_of(samples)
        named = torch.tensor([label(sample) is not None for sample in samples])
        right = (concept[found] == concept[:, None]) & named[:, None]
        if int(named.sum()) >= _LEAST:
            result.metrics[f"{modality} same label"] = _figure(right[named, 0], concept[named])
        for row, sample in enumerate(samples):
            record: dict[str, Any] = {"key": sample.key, "first": samples[int(found[row, 0])].key}
            result.records.append(record | {"modality": modality, "score": round(float(scores[row, 0]), 4)})
        for row in spread(range(len(samples)), self.shown):
            near = zip(scores[row].tolist(), found[row].tolist(), right[row].tolist(), strict=True)
            result.gallery.append(
                Neighbours(
                    task=self.name,
                    source=modality,
                    target=modality,
                    key=samples[row].key,
                    rank=None,
                    worst=False,
                    among=len(samples) - 1,
                    found=tuple(Neighbour(samples[j].key, round(score, 4), same) for score, j, same in near),
                )
            )


def _rows(samples: Sequence[Sample], modalities: Iterable[str]) -> dict[str, list[int]]:
    """Which samples have each modality that is in no pair, if there are enough."""
    paired = {name for pair in pairs_of(samples, modalities) for name in pair}
    alone = sorted(set(modalities) - paired)
    rows = {name: [i for i, sample in enumerate(samples) if sample.content(name)] for name in alone}
    return {name: found for name, found in rows.items() if len(found) >= _LEAST}


def _others(vectors: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n k"], Int[Tensor, "n k"]]:
    """Scores and rows of the nearest others of each row."""
    scores, found = nearest(vectors, vectors, k=_SHOWN + 1)
    itself = found == torch.arange(len(found))[:, None]
    itself[:, -1] |= ~itself.any(1)  # of many that are just like it, the last makes room
    shape = len(found), found.shape[1] - 1
    return scores[~itself].reshape(shape), found[~itself].reshape(shape)


def _figure(right: Tensor, concept: Int[Tensor, "n"]) -> Figure:
    counts = (concept[:, None] == concept[None, :]).sum(1) - 1
    return bootstrap(right.double()).against(float((counts.double() / max(len(concept) - 1, 1)).mean()))
