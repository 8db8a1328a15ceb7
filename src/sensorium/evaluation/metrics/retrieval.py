"""Cross-modal retrieval: how far down a ranked list the first right item stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...core.outputs import products

#: Scores closer than this are ties: it is above the rounding of a float32 product of unit vectors.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Ranks:
    """Where the best positive of each query stands among the negatives.

    ``ahead`` negatives score higher and ``tied`` negatives score the same. Ties count as their average over
    all orders, so that a model which gives one embedding to everything scores exactly chance. Other
    positives of the query are never counted against it.
    """

    ahead: Int[Tensor, "q"]
    tied: Int[Tensor, "q"]

    def position(self) -> Float[Tensor, "q"]:
        """The rank from 1, as ``scipy.stats.rankdata(method="average")``; its median is "median rank"."""
        return 1 + self.ahead.double() + self.tied.double() / 2

    def recall(self, k: int) -> Float[Tensor, "q"]:
        """Whether (with ties: how probably) the positive is among the first ``k``; its mean is R@k.

        This is R@k of Karpathy & Fei-Fei (2015): a query is answered if any of its positives is found.
        """
        return ((k - self.ahead).double() / (self.tied + 1)).clamp(0, 1)

    def reciprocal(self) -> Float[Tensor, "q"]:
        """The (expected) reciprocal rank; its mean is MRR (Voorhees 1999)."""
        first = self.ahead.double() + 1
        # the mean of 1/r over the tied places is a difference of harmonic numbers
        tied = (torch.digamma(first + self.tied + 1) - torch.digamma(first)) / (self.tied + 1)
        return torch.where(self.tied == 0, 1 / first, tied)


def ranks(
    queries: Float[Tensor, "q *n d"],
    gallery: Float[Tensor, "g *m d"],
    *,
    query_concepts: Int[Tensor, "q"],
    gallery_concepts: Int[Tensor, "g"],
    tile: int = 256,
) -> Ranks:
    """The ranks of the queries by dot product (see ``products``); items of the query's concept are its positives.

    Memory is ``tile * g``. A score that is not a number counts against the model. Raises ValueError if
    a query has no positive in the gallery.
    """
    ahead, tied = [], []
    for start, scores in _tiles(queries, gallery, tile):
        positive = query_concepts[start : start + tile, None] == gallery_concepts
        if not bool(positive.any(dim=1).all()):
            raise ValueError("a query has no positive in the gallery")
        best = scores.masked_fill(~positive, -torch.inf).amax(dim=1, keepdim=True)
        above = ~(scores <= best + TOLERANCE) & ~positive
        equal = (scores >= best - TOLERANCE) & ~above & ~positive
        ahead.append(above.sum(dim=1))
        tied.append(equal.sum(dim=1))
    return Ranks(torch.cat(ahead), torch.cat(tied))


def nearest(
    queries: Float[Tensor, "q *n d"], gallery: Float[Tensor, "g *m d"], *, k: int, tile: int = 256
) -> tuple[Float[Tensor, "q k"], Int[Tensor, "q k"]]:
    """Scores and indices of the ``k`` (or all) gallery items most alike to each query, best first."""
    found = [scores.topk(min(k, len(gallery)), dim=1) for _, scores in _tiles(queries, gallery, tile)]
    return torch.cat([top.values for top in found]), torch.cat([top.indices for top in found])


def chance_recall(k: int, *, query_concepts: Int[Tensor, "q"], gallery_concepts: Int[Tensor, "g"]) -> float:
    """R@k of a random order: the mean over queries of ``1 - C(g - p, k) / C(g, k)`` with p positives."""
    size, k = len(gallery_concepts), min(k, len(gallery_concepts))
    known, counts = gallery_concepts.unique(return_counts=True)
    positives = counts[torch.searchsorted(known, query_concepts)].double()
    misses = torch.ones_like(positives)
    for drawn in range(k):
        misses *= ((size - positives - drawn) / (size - drawn)).clamp(min=0)
    return (1 - misses).mean().item()


def _tiles(queries: Tensor, gallery: Tensor, tile: int) -> Iterator[tuple[int, Tensor]]:
    """Scores of ``tile`` queries at a time, with the index of the first."""
    columns = gallery.float()
    for start in range(0, len(queries), tile):
        yield start, products(queries[start : start + tile].float(), columns)
