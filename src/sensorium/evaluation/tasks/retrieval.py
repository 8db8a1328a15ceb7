"""Retrieval: given a sample in one modality, find it in another, for every pair of modalities, both ways."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, zip_longest
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...core import CapabilityError, CheckpointError, Sample
from ..gallery import Item, Neighbour, Neighbours
from ..metrics import Figure, Ranks, bootstrap, chance_recall, nearest, normalise, ranks
from ..protocol import TEXT, Compare, Predictor
from .task import Task, TaskResult, label, spread, subset

CUTS = (1, 5, 10)
_SHOWN = 5  # neighbours of a shown query
_LEAST = 2  # samples below which there is nothing to choose from


@dataclass(frozen=True)
class _Way:
    """One direction of a pair: the ranks of its queries, and the first results of each."""

    source: str
    target: str
    place: Ranks
    scores: Float[Tensor, "q k"]
    top: Int[Tensor, "q k"]

    @classmethod
    def measure(
        cls, source: str, target: str, vectors: Mapping[str, Tensor], rows: list[int], concept: Tensor
    ) -> _Way:
        queries, answers = vectors[source][rows], vectors[target][rows]
        place = ranks(queries, answers, query_concepts=concept, gallery_concepts=concept)
        return cls(source, target, place, *nearest(queries, answers, k=_SHOWN))

    @property
    def name(self) -> str:
        return f"{self.source}->{self.target}"


class Retrieval(Task):
    """R@1, R@5, R@10, median rank and MRR of every pair of content modalities.

    The gallery of a pair is all samples that have both. Samples of the same label, or without labels of
    the same caption, are right answers to one another. ``shown`` queries per direction are kept to be
    looked at, and the ``worst``: those whose right answer came last.
    """

    name = "retrieval"

    def __init__(self, limit: int | None = 2000, shown: int = 4, worst: int = 2) -> None:
        self.limit, self.shown, self.worst = limit, shown, worst

    def applies(self, samples: Sequence[Sample], modalities: Iterable[str]) -> str | None:
        if not pairs_of(samples, modalities):
            return f"fewer than {_LEAST} samples hold two content modalities that the model knows"
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
        pairs = pairs_of(samples, predictor.modalities)
        vectors: dict[str, Tensor] = {}
        refused: dict[str, CapabilityError] = {}
        for modality in dict.fromkeys(name for pair in pairs for name in pair):
            try:
                vectors[modality] = embedded(predictor, samples, modality, batch_size)
            except CapabilityError as error:
                refused[modality] = error
        usable = {pair: both for pair, both in pairs.items() if not refused.keys() & set(pair)}
        if refused and not usable:
            raise next(iter(refused.values()))
        concepts = concepts_of(samples)
        notes = [f"{name} was left out: {error}" for name, error in refused.items()]
        if any(label(sample) is not None for sample in samples):
            notes.append("retrieval takes samples of the same label as right for each other")
        return [self._pair(samples, vectors, concepts, pair, both, notes) for pair, both in usable.items()]

    def _pair(
        self,
        samples: Sequence[Sample],
        vectors: Mapping[str, Tensor],
        concepts: Tensor,
        pair: tuple[str, str],
        both: list[int],
        notes: list[str],
    ) -> TaskResult:
        name = "-".join(pair)
        concept, chosen = concepts[both], [samples[i] for i in both]
        records: list[dict[str, Any]] = [{"key": sample.key} for sample in chosen]
        metrics: dict[str, Figure] = {}
        ways = [_Way.measure(source, target, vectors, both, concept) for source, target in (pair, pair[::-1])]
        for way in ways:
            metrics |= _figures(way, concept)
            for row, (record, position) in enumerate(
                zip(records, way.place.position().tolist(), strict=True)
            ):
                record[way.name] = {"rank": position, "first": chosen[int(way.top[row, 0])].key}
        one, other = (way.place for way in ways)
        both_ways = {
            f"R@{k}": bootstrap((one.recall(k) + other.recall(k)) / 2).against(_chance(k, concept))
            for k in CUTS
        }
        # words are the quickest query for a person to follow
        ways.sort(key=lambda way: way.source != TEXT)
        shown = zip_longest(*(self._shown(name, way, chosen, concept) for way in ways))
        gallery = [item for turn in shown for item in turn if item is not None]
        return TaskResult(name, both_ways | metrics, records, gallery, list(notes))

    def _shown(self, task: str, way: _Way, samples: Sequence[Sample], concept: Tensor) -> list[Item]:
        position = way.place.position()
        behind = (position > 1).nonzero().flatten()
        far = behind[position[behind].argsort(descending=True, stable=True)].tolist()[: self.worst]
        chosen = spread([i for i in range(len(samples)) if i not in far], self.shown)
        return [
            Neighbours(
                task=task,
                source=way.source,
                target=way.target,
                key=samples[i].key,
                rank=position[i].item(),
                worst=i in far,
                among=len(samples),
                found=tuple(
                    Neighbour(samples[j].key, round(score, 4), bool(concept[j] == concept[i]))
                    for score, j in zip(way.scores[i].tolist(), way.top[i].tolist(), strict=True)
                ),
            )
            for i in [*chosen[:1], *far[:1], *chosen[1:], *far[1:]]
        ]


def pairs_of(samples: Sequence[Sample], modalities: Iterable[str]) -> dict[tuple[str, str], list[int]]:
    """The pairs of known modalities, in alphabetical order, and which samples have both."""
    pairs = {}
    for pair in combinations(sorted(modalities), 2):
        both = [i for i, sample in enumerate(samples) if all(sample.content(name) for name in pair)]
        if len(both) >= _LEAST:
            pairs[pair] = both
    return pairs


def embedded(
    predictor: Predictor, samples: Sequence[Sample], modality: str, batch_size: int
) -> Float[Tensor, "samples *n d"]:
    """One row per sample, or several vectors; those of samples without this modality are zero and never looked at."""
    segments = [(i, segment) for i, sample in enumerate(samples) if (segment := sample.content(modality))]
    values = [segment.value for _, segment in segments]
    vectors = predictor.embed(batch_size=batch_size, **{modality: values}).detach().float().cpu()
    if not bool(vectors.isfinite().all()):
        raise CheckpointError(f"the model's embeddings of {modality} are not finite: its weights are damaged")
    rows = torch.zeros(len(samples), *vectors.shape[1:])
    rows[[i for i, _ in segments]] = vectors
    return rows


def concepts_of(samples: Sequence[Sample]) -> Int[Tensor, "samples"]:
    """Equal for samples of the same label, or without labels of the same caption; else unique."""
    ids: dict[tuple[str, str], int] = {}
    return torch.tensor([ids.setdefault(_concept(sample), len(ids)) for sample in samples])


def _concept(sample: Sample) -> tuple[str, str]:
    name, caption = label(sample), sample.content(TEXT)
    if name is not None:
        return "label", name
    return ("key", sample.key) if caption is None else ("caption", normalise(str(caption.value)))


def _figures(way: _Way, concept: Tensor) -> dict[str, Figure]:
    place = way.place
    recalls = {f"{way.name} R@{k}": bootstrap(place.recall(k)).against(_chance(k, concept)) for k in CUTS}
    return recalls | {
        f"{way.name} median rank": bootstrap(place.position(), statistic="median"),
        f"{way.name} MRR": bootstrap(place.reciprocal()),
    }


def _chance(k: int, concept: Tensor) -> float:
    return chance_recall(k, query_concepts=concept, gallery_concepts=concept)
