"""Aligning modalities: what belongs to one sample is close, the rest is far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..core.outputs import Embedding


@dataclass(frozen=True)
class Contrast:
    """The loss of each pair of modalities in nats, and their average."""

    losses: dict[str, Float[Tensor, ""]]
    mean: Float[Tensor, ""]


class Contrastive:
    """Symmetric cross-entropy over the similarities of every pair of modalities present.

    InfoNCE in both directions (CLIP, Radford et al. 2021, arXiv:2103.00020), averaged over pairs. Samples with
    the same ``concept`` (class, or literally the same caption) are positives of each other (UniCL, Yang et al.
    2022, arXiv:2204.03610), so that a batch with few distinct texts does not teach against itself.
    """

    def __init__(self, *, weight: float = 1.0) -> None:
        self.weight = weight

    def __call__(
        self,
        embeddings: Mapping[str, Embedding],
        scale: Float[Tensor, ""],
        concept: Int[Tensor, "b"],
    ) -> Contrast:
        """One loss in nats per pair of modalities that share at least two samples, and their average.

        The average counts each pair by the number of samples that have both, so that a rare modality
        does not outweigh a common one.
        """
        losses, sizes = {}, []
        for first, second in combinations(sorted(embeddings), 2):
            a, b = _shared(embeddings[first], embeddings[second])
            if len(a.owner) > 1:
                losses[f"contrastive/{first}-{second}"] = _symmetric(
                    a.vectors, b.vectors, scale, concept[a.owner]
                )
                sizes.append(len(a.owner))
        if not losses:
            return Contrast(losses, scale.new_zeros(()))
        shares = torch.tensor(sizes, device=scale.device) / sum(sizes)
        return Contrast(losses, (torch.stack(list(losses.values())) * shares).sum())


def _shared(a: Embedding, b: Embedding) -> tuple[Embedding, Embedding]:
    """The rows of both whose samples have both, matched; the first row of a sample stands for it."""
    first_a, first_b = _firsts(a.owner), _firsts(b.owner)
    rows, columns = (a.owner[first_a][:, None] == b.owner[first_b]).nonzero(as_tuple=True)
    rows, columns = first_a[rows], first_b[columns]
    return Embedding(a.vectors[rows], a.owner[rows]), Embedding(b.vectors[columns], b.owner[columns])


def _firsts(owner: Int[Tensor, "n"]) -> Int[Tensor, "m"]:
    """Rows that are the first of their sample."""
    repeated = (owner[:, None] == owner).tril(-1).any(1)
    return (~repeated).nonzero()[:, 0]


def _symmetric(
    a: Float[Tensor, "n d"], b: Float[Tensor, "n d"], scale: Float[Tensor, ""], concept: Int[Tensor, "n"]
) -> Float[Tensor, ""]:
    logits = scale * a @ b.T
    same = (concept[:, None] == concept).to(logits.dtype)
    target = same / same.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
