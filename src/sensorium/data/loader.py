"""The resumable loader: global batches in a fixed order, split over ranks and micro-batches."""

from __future__ import annotations

import io
import os
import pickle  # between our own processes only, never from a file
import signal
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..core.batch import Batch
from ..core.errors import DataError
from ..core.modality import Modality
from ..core.random import seed_of
from .collate import collate
from .item import Cache, Draws, Item, prepare
from .order import Order
from .sources.source import Source

_T = TypeVar("_T")


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
        mine = _share(self.order.samples(step), self.rank, self.ranks)
        batches, problems = [], []
        for part in range(self.micro):
            items: list[Item] = []
            for place in _share(mine, part, self.micro):
                try:
                    items.append(
                        prepare(
                            self.sources[place.source][place.row],
                            self.modalities,
                            draws=self.draws,
                            seed=seed_of(self.seed, place.visit, place.source),
                            cache=self.cache,
                        )
                    )
                except DataError as error:
                    problems.append(error)
            batches.append(collate(items, self.modalities))
        return Load(step, batches, problems)


class _Packed(torch.utils.data.Dataset):
    """The same as bytes: shared memory would cost a file descriptor per tensor and fill small /dev/shm."""

    def __init__(self, steps: _Steps) -> None:
        self.steps = steps

    def __getitem__(self, step: int) -> bytes:
        buffer = io.BytesIO()
        _Pickler(buffer, pickle.HIGHEST_PROTOCOL).dump(self.steps[step])
        return buffer.getvalue()


class _Pickler(pickle.Pickler):
    """Tensors by way of numpy, which is many times faster than their own way."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, Tensor) and value.dtype is not torch.bfloat16:  # numpy has no bfloat16
            return torch.from_numpy, (value.numpy(),)
        return NotImplemented


def _share(places: Sequence[_T], part: int, parts: int) -> Sequence[_T]:
    return places[part * len(places) // parts : (part + 1) * len(places) // parts]


def _worker(number: int) -> None:
    """Whoever signals the whole process group asks the trainer to stop; loading goes on as long as it lives."""
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    """A killed trainer reads no more: what waits to be sent to it must not keep this process alive."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


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

    def iterate(self, start: int, stop: int | None = None) -> Generator[Load, None, None]:
        """Loads of steps ``start`` to ``stop`` (or without end)."""
        numbers = range(start, 1 << 62 if stop is None else stop)
        if not self.workers:
            yield from map(self.steps.__getitem__, numbers)
            return
        loader = torch.utils.data.DataLoader(
            _Packed(self.steps),
            batch_size=None,
            sampler=numbers,
            num_workers=self.workers,
            prefetch_factor=4,
            worker_init_fn=_worker,
            generator=torch.Generator().manual_seed(0),  # else the global one would be drawn from
        )
        for packed in loader:
            yield pickle.loads(packed)
