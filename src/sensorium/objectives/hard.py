"""The negatives that are hardest to tell from what is right: those most similar."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..core.errors import ConfigError
from .pair import Pair
from .tiles import TILE, Keep, blocks


class Hardest:
    """Chooses the ``count`` columns most similar to each row among those of another concept, the queue included
    (hard-negative mining over the batch: VSE++, Faghri et al. 2017, arXiv:1707.05612).
    """

    def __init__(self, count: int) -> None:
        if count < 1:
            raise ConfigError(f"hardest must be at least 1, found {count}")
        self.count = count

    def __call__(self, pair: Pair) -> tuple[Keep, Keep]:
        """What counts for the rows of ``pair.a``: among everyone's ``b`` (positives always do), and in the queue."""
        concept, concepts = pair.concept, pair.concepts
        everyone = pair.everyone.detach()
        chosen = hardest(
            pair.a.detach(), [everyone, pair.queue_b], self.count, concept, concepts, tile=pair.tile
        )

        def batch(r: slice, c: slice) -> Tensor:
            return _marked(chosen[r], c) | (concept[r, None] == concepts[c])

        def queue(r: slice, c: slice) -> Tensor:
            return _marked(chosen[r] - pair.count, c)

        return batch, queue


@torch.no_grad()
def hardest(
    a: Float[Tensor, "m d"],
    columns: Sequence[Float[Tensor, "_ d"]],
    count: int,
    concept: Int[Tensor, "m"],
    concepts: Int[Tensor, "n"],
    *,
    tile: int = TILE,
) -> Int[Tensor, "m count"]:
    """For each row of ``a`` its ``count`` most similar rows of ``columns``, numbered through; -1 where there are fewer.

    ``concepts`` are those of the first matrix of ``columns``, of which rows of the own concept are never chosen;
    the others have none.
    """
    best = a.new_full((len(a), count), -torch.inf)
    chosen = torch.full((len(a), count), -1, dtype=torch.long, device=a.device)
    start = 0
    for matrix in columns:
        for r, c, similarity in blocks(a, matrix, tile=tile):
            if start == 0:
                similarity.masked_fill_(concept[r, None] == concepts[c], -torch.inf)
            number = torch.arange(start + c.start, start + c.stop, device=a.device).expand_as(similarity)
            best[r], place = torch.cat([best[r], similarity], 1).topk(count, 1)
            chosen[r] = torch.cat([chosen[r], number], 1).gather(1, place)
        start += len(matrix)
    return chosen.masked_fill_(best.isinf(), -1)


@torch.no_grad()
def draw_negatives(
    a: Float[Tensor, "m d"],
    b: Float[Tensor, "n d"],
    scale: Float[Tensor, ""] | float,
    concept: Int[Tensor, "m"],
    concepts: Int[Tensor, "n"],
    generator: torch.Generator | None = None,
    *,
    tile: int = TILE,
) -> Int[Tensor, "m"]:
    """For each row of ``a`` one row of ``b`` of another concept, drawn with a probability that grows with similarity:
    ``softmax(scale * a b')`` (ALBEF, Li et al. 2021, arXiv:2107.07651); -1 where there is none.

    For image-text matching. The draw is the largest of the logits with Gumbel noise added, which needs no matrix.
    """
    best = a.new_full((len(a),), -torch.inf)
    drawn = torch.full((len(a),), -1, dtype=torch.long, device=a.device)
    for r, c, logits in blocks(a, b, scale, tile=tile):
        logits.sub_(torch.empty_like(logits).exponential_(generator=generator).log_())
        logits.masked_fill_(concept[r, None] == concepts[c], -torch.inf)
        value, place = logits.max(1)
        drawn[r] = torch.where(value > best[r], place + c.start, drawn[r])
        best[r] = torch.maximum(value, best[r])
    return drawn


def _marked(numbers: Int[Tensor, "r count"], c: slice) -> Tensor:
    """True in the columns ``c`` that are among the numbers of their row."""
    width = c.stop - c.start
    inside = torch.where((numbers >= c.start) & (numbers < c.stop), numbers - c.start, width)
    marks = torch.zeros(len(numbers), width + 1, dtype=torch.bool, device=numbers.device)
    return marks.scatter_(1, inside, True)[:, :width]
