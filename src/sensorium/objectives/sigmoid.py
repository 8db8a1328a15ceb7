"""Is this one mine: each pair is judged by itself."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from .hard import Hardest
from .pair import Pair, Pairwise
from .tiles import Keep, softplus_sums


class Sigmoid(Pairwise):
    """``log(1 + exp(-z (scale * a b' + bias)))`` summed over all pairs of rows and divided by the number of rows;
    z is 1 within a concept and -1 otherwise (SigLIP, Zhai et al. 2023, arXiv:2303.15343).

    ``hardest``: only so many of each row's negatives count, those most similar; the loss is then the mean of what
    rows and columns find. Rows of a queue are negatives of every row. Raises ConfigError for ``hardest`` below 1.
    """

    def __init__(self, *, hardest: int | None = None) -> None:
        self.hardest = Hardest(hardest) if hardest is not None else None

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        dots, counts = pair.positives()
        match = pair.scale * dots.sum() + pair.bias * counts.sum()
        sides = [pair, pair.swapped]
        if self.hardest is not None:
            sums = [self._hard(side, self.hardest) for side in sides]
        else:
            batch = _sums(pair, pair.everyone).sum()
            sums = [batch + _sums(side, side.queue_b).sum() for side in sides]
        return (torch.stack(sums).mean() - match) / pair.count

    @staticmethod
    def _hard(side: Pair, hardest: Hardest) -> Float[Tensor, ""]:
        batch, queue = hardest(side)
        return _sums(side, side.everyone, batch).sum() + _sums(side, side.queue_b, queue).sum()


def _sums(side: Pair, columns: Float[Tensor, "n d"], keep: Keep | None = None) -> Float[Tensor, "m"]:
    return softplus_sums(side.a, columns, side.scale, side.bias, tile=side.tile, keep=keep)
