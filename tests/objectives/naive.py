"""Every loss written down a second time, with loops and without anything clever."""

from __future__ import annotations

import math
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


def contrastive(
    embeddings: dict[str, Embedding], scale: Tensor, concept: Tensor
) -> dict[str, tuple[Tensor, int]]:
    """Loss and number of samples of each pair of modalities: both directions, every positive weighing the same."""
    first = {
        name: {owner: row for row, owner in reversed(list(enumerate(found.owner.tolist())))}
        for name, found in embeddings.items()
    }
    result = {}
    for a, b in combinations(sorted(embeddings), 2):
        both = sorted(first[a].keys() & first[b].keys())
        if len(both) < 2:
            continue
        left = [embeddings[a].vectors[first[a][owner]] for owner in both]
        right = [embeddings[b].vectors[first[b][owner]] for owner in both]
        total = torch.zeros((), dtype=scale.dtype)
        for these, those in ((left, right), (right, left)):
            for i, row in enumerate(these):
                similarities = torch.stack([scale * (row * column).sum() for column in those])
                positives = [j for j in range(len(both)) if concept[both[j]] == concept[both[i]]]
                for j in positives:
                    total = total + cross_entropy(similarities, j) / len(positives)
        result[f"contrastive/{a}-{b}"] = total / (2 * len(both)), len(both)
    return result


def weighted_mean(pairs: dict[str, tuple[Tensor, int]]) -> Tensor:
    """Over pairs of modalities, by the number of samples that have both."""
    count = math.fsum(size for _, size in pairs.values())
    return sum((loss * size / count for loss, size in pairs.values()), torch.zeros((), dtype=torch.float64))
