"""Which sample comes when: a function of the seed and the step, so that a loader's whole state is one number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from ..core.errors import ConfigError
from ..core.random import seed_of


class Place(NamedTuple):
    """Sample ``row`` of a source, when it comes for the ``visit``-th time (from 0)."""

    source: int
    row: int
    visit: int


class Order:
    """The order of samples from several weighted sources: endless epochs, one after the other, cut into batches.

    In each epoch a source of ``n`` samples gives ``round(weight * n)`` of them, at least one: with weight 0.5 one
    half, the other half in the next epoch; with weight 2 each twice. All are shuffled together. Nothing is
    dropped at the end of an epoch: a batch may end one and begin the next. A batch is never larger than an
    epoch. The order does not depend on the number of ranks or loader processes.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], *, batch: int, seed: int) -> None:
        if batch < 1:
            raise ConfigError(f"batch must be at least 1, found {batch}")
        for weight in weights:
            if not (weight >= 0 and math.isfinite(weight)):
                raise ConfigError(f"the weight of a source must be at least 0, found {weight}")
        self.sizes, self.seed = list(sizes), seed
        self.shares = [
            max(1, round(size * weight)) if size and weight else 0
            for size, weight in zip(sizes, weights, strict=True)
        ]
        self.per_epoch = sum(self.shares)
        if not self.per_epoch:
            raise ConfigError("there is nothing to train on: every source is empty or has weight 0")
        self.batch = min(batch, self.per_epoch)
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_epoch"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    @property
    def batches(self) -> float:
        """Batches per epoch."""
        return self.per_epoch / self.batch

    def samples(self, step: int) -> list[Place]:
        """The global batch of a step, from 0."""
        epoch, start = divmod(step * self.batch, self.per_epoch)
        rows = self._epoch(epoch)[start : start + self.batch].tolist()
        rows += self._epoch(epoch + 1)[: self.batch - len(rows)].tolist() if len(rows) < self.batch else []
        return [Place(*row) for row in rows]

    def _shuffled(self, count: int, *parts: int | str) -> Tensor:
        generator = torch.Generator().manual_seed(seed_of(self.seed, *parts))
        return torch.randperm(count, generator=generator)

    def _make_epoch(self, epoch: int) -> Tensor:
        """One row per sample: source, row, visit. A source goes through all its samples again and again."""
        chosen = []
        for source, (size, share) in enumerate(zip(self.sizes, self.shares, strict=True)):
            begin, end = epoch * share, (epoch + 1) * share
            for visit in range(begin // size, -(-end // size)) if share else ():
                first = visit * size
                row = self._shuffled(size, "source", source, visit)[max(begin - first, 0) : end - first]
                chosen.append(
                    torch.stack([torch.full_like(row, source), row, torch.full_like(row, visit)], 1)
                )
        rows = torch.cat(chosen)
        return rows[self._shuffled(len(rows), "epoch", epoch)].int()
