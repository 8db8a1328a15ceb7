"""Aligning modalities: what belongs to one sample is close, the rest is far."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..core.errors import ConfigError, nearest
from ..core.exchange import ALONE, Exchange
from ..core.outputs import Embedding, Outputs
from .across import total
from .info_nce import InfoNCE
from .pair import Pair, Pairwise
from .tiles import TILE


@dataclass(frozen=True)
class Contrast:
    """The loss of each pair of modalities in nats, and their average."""

    losses: dict[str, Float[Tensor, ""]]
    mean: Float[Tensor, ""]


class Contrastive:
    """A pairwise loss over every pair of modalities present, averaged over pairs; by default symmetric InfoNCE (CLIP,
    Radford et al. 2021, arXiv:2103.00020).

    ``anchor`` names the modality with which alone the others are contrasted (ImageBind, Girdhar et al. 2023,
    arXiv:2305.05665); without one, every pair is. Similarities are computed in blocks of ``tile`` rows and columns,
    never as a whole: the default suits the cache of a CPU, a GPU wants some thousands. Raises ConfigError for a tile
    below 1.
    """

    def __init__(
        self,
        *,
        weight: float = 1.0,
        pairwise: Pairwise | None = None,
        anchor: str | None = None,
        tile: int = TILE,
    ) -> None:
        if tile < 1:
            raise ConfigError(f"tile must be at least 1, found {tile}")
        self.weight, self.anchor, self.tile = weight, anchor, tile
        self.pairwise = pairwise or InfoNCE()

    def __call__(self, outputs: Outputs, concept: Int[Tensor, "b"], exchange: Exchange = ALONE) -> Contrast:
        """One loss in nats per pair of modalities that share at least two samples, and their average.

        The average counts each pair by the number of samples that have both, so that a rare modality does not
        outweigh a common one. Several processes give each its own samples and get the same losses; gradients at
        embeddings are whole, those at scale and bias this process's share. Raises ConfigError for outputs without
        a scale or without the anchor.
        """
        if outputs.scale is None:
            raise ConfigError("the contrastive loss needs a model whose Outputs have a scale, found none")
        names = self._names(outputs)
        shared = [_shared(outputs, pair, len(concept)) for pair in names]
        here = torch.tensor([[len(samples) for samples in shared]], device=concept.device)
        sizes = torch.cat(exchange.gather_rows(here))  # [processes, pairs]
        starts, counts = sizes[: exchange.rank].sum(0).tolist(), sizes.sum(0).tolist()
        losses, weights = {}, []
        for (a, b), samples, start, count in zip(names, shared, starts, counts, strict=True):
            if count > 1:
                place = _Place(concept, samples, slice(start, start + len(samples)), count)
                pair = place.pair(outputs, a, b, exchange, self.tile)
                losses[f"contrastive/{a}-{b}"] = total(self.pairwise(pair), exchange)
                weights.append(count)
        if not losses:
            return Contrast(losses, outputs.scale.new_zeros(()))
        found = torch.stack(list(losses.values()))
        return Contrast(losses, (found * found.new_tensor(weights)).sum() / sum(weights))

    def _names(self, outputs: Outputs) -> list[tuple[str, str]]:
        """The pairs of modalities that are contrasted, in the order of their names."""
        known = sorted(outputs.embeddings)
        if self.anchor is not None and self.anchor not in known:
            raise ConfigError(f"contrastive.anchor is {self.anchor!r}{nearest(self.anchor, known)}")
        return [pair for pair in combinations(known, 2) if self.anchor is None or self.anchor in pair]


@dataclass(frozen=True)
class _Place:
    """Which of this process's samples have both modalities of a pair, and where they stand among all ``count``."""

    concept: Int[Tensor, "b"]
    samples: Int[Tensor, "m"]
    mine: slice
    count: int

    def pair(self, outputs: Outputs, a: str, b: str, exchange: Exchange, tile: int) -> Pair:
        rows_a, rows_b = (self._vectors(outputs.embeddings[name], name) for name in (a, b))
        none = rows_a.new_empty(0, rows_a.shape[1])
        queue_a, queue_b = (outputs.queue.get(name, none).detach().to(none) for name in (a, b))
        assert outputs.scale is not None
        taught = outputs.teacher
        if taught is not None and (taught.scale is None or not {a, b} <= taught.embeddings.keys()):
            taught = None
        return Pair(
            a=rows_a,
            b=rows_b,
            scale=outputs.scale.to(none),
            bias=none.new_zeros(()) if outputs.bias is None else outputs.bias.to(none),
            concept=self.concept[self.samples],
            queue_a=queue_a,
            queue_b=queue_b,
            mine=self.mine,
            count=self.count,
            exchange=exchange,
            tile=tile,
            teacher=None if taught is None else self.pair(taught, a, b, exchange, tile),
        )

    def _vectors(self, found: Embedding, name: str) -> Float[Tensor, "m d"]:
        """The first row of each sample, in the order of samples; a copy only where that is another order."""
        rows = _first(found.owner, len(self.concept))[self.samples]
        if bool((rows < 0).any()):
            raise ConfigError(f"the teacher embeds no {name} of a sample of which the student does")
        vectors = found.vectors if found.vectors.dtype == torch.float64 else found.vectors.float()
        whole = torch.equal(rows, torch.arange(len(vectors), device=rows.device))
        return vectors if whole else vectors.index_select(0, rows)


def _shared(outputs: Outputs, pair: tuple[str, str], samples: int) -> Int[Tensor, "m"]:
    """The samples that have both modalities."""
    first, second = (_first(outputs.embeddings[name].owner, samples) for name in pair)
    return ((first >= 0) & (second >= 0)).nonzero()[:, 0]


def _first(owner: Int[Tensor, "n"], samples: int) -> Int[Tensor, "samples"]:
    """The first row of each sample, or -1."""
    rows = torch.arange(len(owner), device=owner.device)
    found = owner.new_full((samples,), len(owner)).scatter_reduce_(0, owner, rows, "amin")
    return found.masked_fill(found == len(owner), -1)
