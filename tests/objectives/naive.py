"""Every loss written down a second time, with loops and without anything clever."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.core.outputs import Embedding, Outputs, TokenPrediction


def cross_entropy(logits: Tensor, target: int, smoothing: float = 0.0) -> Tensor:
    log_probability = logits - logits.exp().sum().log()
    return -(1 - smoothing) * log_probability[target] - smoothing * log_probability.mean()


def next_tokens(found: TokenPrediction, smoothing: float) -> Tensor:
    """The mean over all predicted tokens."""
    losses = [
        cross_entropy(row, int(t), smoothing) for row, t in zip(found.logits, found.target, strict=True)
    ]
    return torch.stack(losses).mean()


def masked(outputs: Outputs, batch: Batch) -> dict[str, Tensor]:
    """The mean over masked segments of the mean over what was masked in each; a segment may have drawn nothing."""
    found = {}
    for name, stream in batch.streams.items():
        segments = int(stream.corrupt.sum())
        if not segments:
            continue
        if name in outputs.masked_tokens:
            prediction = outputs.masked_tokens[name]
            losses = [
                cross_entropy(row, int(t))
                for row, t in zip(prediction.logits, prediction.target, strict=True)
            ]
        else:
            prediction = outputs.masked_patches[name]
            pairs = zip(prediction.values, prediction.target, strict=True)
            losses = [((a - b) ** 2).sum() / len(a) for a, b in pairs]
        # Rows of one segment follow each other and share its weight, 1 / their number.
        total, row = torch.zeros((), dtype=torch.float64), 0
        while row < len(losses):
            count = round(1 / float(prediction.weight[row]))
            total = total + sum(losses[row : row + count]) / count
            row += count
        found[f"masked/{name}"] = total / segments
    return found


@dataclass(frozen=True)
class Asked:
    """A contrastive loss: its kind, the arguments of that kind, and the anchor."""

    kind: str = "info_nce"
    directions: str = "both"
    smoothing: float = 0.0
    hardest: int | None = None
    anchor: str | None = None


def contrastive(outputs: Outputs, concept: Tensor, asked: Asked = Asked()) -> dict[str, tuple[Tensor, int]]:
    """Loss and number of samples of each pair of modalities."""
    first = {name: _first(found) for name, found in outputs.embeddings.items()}
    result = {}
    for a, b in combinations(sorted(first), 2):
        both = sorted(first[a].keys() & first[b].keys())
        if len(both) < 2 or (asked.anchor is not None and asked.anchor not in (a, b)):
            continue
        sides = []
        for these, those in ((a, b), (b, a)):
            rows = torch.stack([outputs.embeddings[these].vectors[first[these][o]] for o in both])
            columns = [outputs.embeddings[those].vectors[first[those][o]] for o in both]
            matrix = outputs.scale * rows @ torch.stack([*columns, *outputs.queue.get(those, [])]).T
            if asked.kind == "sigmoid":
                matrix = matrix + outputs.bias
            if asked.kind == "affinity":
                sides.append(_affinity(matrix, outputs.teacher, these, those, both))
            else:
                sides.append(_side(matrix, concept[both], asked))
        loss = {"both": sum(sides) / 2, "first": sides[0], "second": sides[1]}[asked.directions]
        result[f"contrastive/{a}-{b}"] = loss / len(both), len(both)
    return result


def _first(found: Embedding) -> dict[int, int]:
    """The first row of each sample."""
    return {owner: row for row, owner in reversed(list(enumerate(found.owner.tolist())))}


def _side(matrix: Tensor, concept: Tensor, asked: Asked) -> Tensor:
    """The sum over the rows of a matrix, whose columns beyond its rows are negatives."""
    total = torch.zeros((), dtype=matrix.dtype)
    for i, row in enumerate(matrix):
        positives = [j for j in range(len(matrix)) if concept[j] == concept[i]]
        negatives = [j for j in range(len(row)) if j not in positives]
        if asked.hardest is not None:
            negatives = sorted(negatives, key=lambda j: -float(row.detach()[j]))[: asked.hardest]
        if asked.kind == "sigmoid":
            total = total + sum((1 + (-row[j]).exp()).log() for j in positives)
            total = total + sum(((1 + row[j].exp()).log() for j in negatives), torch.zeros(()))
        else:
            kept = row[positives + negatives]
            for place in range(len(positives)):
                total = total + cross_entropy(kept, place, asked.smoothing) / len(positives)
    return total


def _affinity(matrix: Tensor, teacher: Outputs, these: str, those: str, both: list[int]) -> Tensor:
    """The divergence of each row from the teacher's, summed."""
    rows, columns = (
        torch.stack([teacher.embeddings[name].vectors[_first(teacher.embeddings[name])[o]] for o in both])
        for name in (these, those)
    )
    target = (teacher.scale * rows @ columns.T).softmax(1)
    return (target * (target.log() - matrix.softmax(1).log())).sum()


def mean(outputs: Outputs, concept: Tensor, asked: Asked = Asked()) -> Tensor:
    return weighted_mean(contrastive(outputs, concept, asked))


def weighted_mean(pairs: dict[str, tuple[Tensor, int]]) -> Tensor:
    """Over pairs of modalities, by the number of samples that have both."""
    count = math.fsum(size for _, size in pairs.values())
    return sum((loss * size / count for loss, size in pairs.values()), torch.zeros((), dtype=torch.float64))
