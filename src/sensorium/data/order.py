"""Which sample comes when: a function of the seed and the step, so that a loader's whole state is one number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch

from ..core.errors import ConfigError
from ..core.random import seed_of


class Order:
    """The order of samples from several weighted sources, for any number of epochs.

    In each epoch a source of ``n`` samples gives ``round(weight * n)`` of them: with weight 0.5 one half, the
    other half in the next epoch; with weight 2 each twice. All are shuffled together. The order does not
    depend on the number of ranks or loader processes.
    """

    def __init__(self, sizes: Sequence[int], weights: Sequence[float], *, batch: int, seed: int) -> None:
        self.sizes, self.seed = list(sizes), seed
        if batch < 1:
            raise ConfigError(f"batch must be at least 1, found {batch}")
        self.shares = [round(size * weight) for size, weight in zip(sizes, weights, strict=True)]
        self.per_epoch = sum(self.shares)
        if not self.per_epoch:
            raise ConfigError("there is nothing to train on: every source is empty or has weight 0")
        self.batch = min(batch, self.per_epoch)
        self.batches = self.per_epoch // self.batch
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "_epoch"}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._epoch = lru_cache(maxsize=2)(self._make_epoch)

    def _shuffled(self, count: int, *parts: int | str) -> list[int]:
        generator = torch.Generator().manual_seed(seed_of(self.seed, *parts))
        return torch.randperm(count, generator=generator).tolist()

    def _make_epoch(self, epoch: int) -> list[tuple[int, int]]:
        chosen: list[tuple[int, int]] = []
        for source, (size, share) in enumerate(zip(self.sizes, self.shares, strict=True)):
            begin, end = epoch * share, (epoch + 1) * share
            for round_ in range(begin // size if size else 0, -(-end // size) if size else 0):
                first = round_ * size
                shuffled = self._shuffled(size, "source", source, round_)
                chosen += [(source, i) for i in shuffled[max(begin - first, 0) : end - first]]
        return [chosen[i] for i in self._shuffled(len(chosen), "epoch", epoch)]

    def samples(self, step: int) -> tuple[int, list[tuple[int, int]]]:
        """The epoch of a step (a global batch, from 0) and its samples as (source, index)."""
        epoch, index = divmod(step, self.batches)
        return epoch, self._epoch(epoch)[index * self.batch : (index + 1) * self.batch]
