"""The resumable loader: global batches in a fixed order, split over ranks and micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from ..core.batch import Batch
from ..core.errors import DataError
from ..core.modality import Modality
from ..core.random import seed_of
from .collate import collate
from .item import Cache, Draws, Item, prepare
from .order import Order
from .sources.source import Source


@dataclass(frozen=True)
class Load:
    """What one rank gets for one step: its micro-batches, and the samples that could not be used."""

    step: int
    batches: list[Batch]
    problems: list[DataError]

    @property
    def keys(self) -> list[str]:
        return [key for batch in self.batches for key in batch.keys]


class _Steps(torch.utils.data.Dataset):
    """Step number -> Load. What a step holds depends on nothing but its number."""

    def __init__(
        self,
        sources: Sequence[Source],
        order: Order,
        modalities: Mapping[str, Modality],
        draws: Draws,
        seed: int,
        rank: int,
        ranks: int,
        micro: int,
        cache: Cache,
    ) -> None:
        self.sources, self.order, self.modalities, self.draws = sources, order, modalities, draws
        self.cache = cache
        self.seed, self.rank, self.ranks, self.micro = seed, rank, ranks, micro

    def __getitem__(self, step: int) -> Load:
        epoch, places = self.order.samples(step)
        mine = _share(places, self.rank, self.ranks)
        batches, problems = [], []
        for part in range(self.micro):
            items: list[Item] = []
            for source, index in _share(mine, part, self.micro):
                try:
                    sample = self.sources[source][index]
                    items.append(
                        prepare(
                            sample, self.modalities, draws=self.draws, seed=seed_of(self.seed, epoch, source)
                        )
                    )
                except DataError as error:
                    problems.append(error)
            batches.append(collate(items, self.modalities))
        return Load(step, batches, problems)


def _share(places: Sequence[tuple[int, int]], part: int, parts: int) -> Sequence[tuple[int, int]]:
    return places[part * len(places) // parts : (part + 1) * len(places) // parts]


class Loader:
    """Endless loads from step ``start``. Its whole state is the number of the next step.

    ``workers`` processes prepare ahead; with 0 the caller's own does. Each keeps up to ``cache`` bytes of prepared
    values whose preparation is not random. The same samples, in the same
    order and with the same draws, come for any number of workers; of ranks, too, taken together.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        order: Order,
        modalities: Mapping[str, Modality],
        *,
        draws: Draws,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        micro: int = 1,
        workers: int = 0,
        cache: int = 0,
    ) -> None:
        self.steps = _Steps(sources, order, modalities, draws, seed, rank, ranks, micro, Cache(cache))
        self.workers = workers

    def iterate(self, start: int, stop: int | None = None) -> Iterator[Load]:
        """Loads of steps ``start`` to ``stop`` (or without end)."""
        numbers = range(start, 1 << 62 if stop is None else stop)
        loader = torch.utils.data.DataLoader(
            self.steps,
            batch_size=None,
            sampler=numbers,
            num_workers=self.workers,
            prefetch_factor=4 if self.workers else None,
            generator=torch.Generator().manual_seed(0),  # else the global one would be drawn from
        )
        yield from loader
