"""Which of all is mine: cross-entropy over similarities."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import ConfigError, nearest
from .hard import Hardest
from .pair import Pair, Pairwise
from .tiles import log_sums

_DIRECTIONS = ("both", "first", "second")


class InfoNCE(Pairwise):
    """Cross-entropy of each row's similarities with the samples of its concept as target (van den Oord et al. 2018,
    arXiv:1807.03748; several positives share the target: UniCL, Yang et al. 2022, arXiv:2204.03610).

    ``directions``: ``both`` averages the two (CLIP, Radford et al. 2021, arXiv:2103.00020); with ``first``, the
    modality that comes first in the loss's name is asked for its match in the second, with ``second`` the reverse.
    ``smoothing`` is the share of the target that is spread evenly over all columns (ALIGN, Jia et al. 2021,
    arXiv:2102.05918: 0.1). ``hardest``: only so many of each row's negatives count, those most similar. Rows of
    a queue are negatives of every row (MoCo, He et al. 2019, arXiv:1911.05722). Raises ConfigError for values outside
    their range, and for smoothing over negatives that do not count.
    """

    def __init__(
        self, *, directions: str = "both", smoothing: float = 0.0, hardest: int | None = None
    ) -> None:
        if directions not in _DIRECTIONS:
            raise ConfigError(f"directions is {directions!r}{nearest(directions, _DIRECTIONS)}")
        if not 0 <= smoothing < 1:
            raise ConfigError(f"smoothing must be at least 0 and below 1, found {smoothing}")
        if hardest is not None and smoothing:
            raise ConfigError(
                f"smoothing is {smoothing}: with hardest = {hardest}, most columns do not count"
            )
        self.directions, self.smoothing = directions, smoothing
        self.hardest = Hardest(hardest) if hardest is not None else None

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        if self.directions == "second":
            pair = pair.swapped
        dots, counts = pair.positives()
        match = pair.scale * dots / counts  # per row of a; in all it is the same for the rows of b
        losses = []
        for side, sums in self._sides(pair):
            loss = (sums - match).sum()
            if self.smoothing:
                loss = loss + self.smoothing * (match.sum() - self._evenly(pair, side))
            losses.append(loss)
        return torch.stack(losses).mean() / pair.count

    @staticmethod
    def _evenly(pair: Pair, side: Pair) -> Float[Tensor, ""]:
        """The mean of each row of similarities, queue included, summed over rows: it needs the sums of rows alone."""
        batch = (pair.a.sum(0) * pair.everyone.sum(0)).sum()
        queue = (side.a.sum(0) * side.queue_b.sum(0)).sum()
        return pair.scale * (batch + queue) / (pair.count + len(side.queue_b))

    def _sides(self, pair: Pair) -> list[tuple[Pair, Float[Tensor, "m"]]]:
        """Each direction, and the log-sum-exp of every own row of its ``a``."""
        sides = [pair, pair.swapped] if self.directions == "both" else [pair]
        if self.hardest is not None:
            return [(side, self._hard(side, self.hardest)) for side in sides]
        if self.directions == "both":
            sums = list(pair.log_sums())
        else:
            sums = [log_sums(pair.a, pair.everyone, pair.scale, tile=pair.tile)]
        return [(side, _with_queue(side, one)) for side, one in zip(sides, sums, strict=True)]

    @staticmethod
    def _hard(side: Pair, hardest: Hardest) -> Float[Tensor, "m"]:
        batch, queue = hardest(side)
        sums = log_sums(side.a, side.everyone, side.scale, tile=side.tile, keep=batch)
        queued = log_sums(side.a, side.queue_b, side.scale, tile=side.tile, keep=queue)
        return torch.logaddexp(sums, queued)


def _with_queue(side: Pair, sums: Float[Tensor, "m"]) -> Float[Tensor, "m"]:
    if not len(side.queue_b):
        return sums
    return torch.logaddexp(sums, log_sums(side.a, side.queue_b, side.scale, tile=side.tile))
