"""The loader: the same loads for any number of workers, ranks and micro-batches; a broken sample costs only itself."""

from __future__ import annotations

import os
import random
import signal
from dataclasses import fields

import numpy as np
import pytest
import torch
from nn.toys import MODALITIES, Words, sample
from training.kit import Memory, samples

from sensorium.core import DataError
from sensorium.core.batch import Batch
from sensorium.data.item import Draws
from sensorium.data.loader import Load, Loader
from sensorium.data.order import Order


def _loader(items=None, *, batch=6, modalities=MODALITIES, **how):
    source = Memory(samples(17) if items is None else items)
    return Loader(
        [source], Order([len(source)], [1.0], batch=batch, seed=0), modalities, draws=Draws(), seed=0, **how
    )


def _loads(loader: Loader, start: int = 0, stop: int = 9) -> list[Load]:
    return list(loader.iterate(start, stop))


def _assert_equal(a: Batch, b: Batch) -> None:
    assert a.keys == b.keys
    assert torch.equal(a.concept, b.concept)
    for name, stream in a.streams.items():
        for field in fields(stream):
            found, expected = getattr(stream, field.name), getattr(b.streams[name], field.name)
            if expected is None:
                assert found is None
                continue
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected), (name, field.name)


def _draws(loads: list[Load]) -> dict[tuple[int, str], list]:
    """What was drawn for each sample, by step and key."""
    found: dict[tuple[int, str], list] = {}
    for load in loads:
        for batch in load.batches:
            for name, stream in batch.streams.items():
                for row, owner in enumerate(stream.owner.tolist()):
                    drawn = (
                        name,
                        stream.hidden[row].item(),
                        stream.corrupt[row].item(),
                        stream.seed[row].item(),
                    )
                    found.setdefault((load.step, batch.keys[owner]), []).append(drawn)
    return {place: sorted(drawn) for place, drawn in found.items()}


BROKEN = DataError("gone", key="s3", file="list.jsonl", line=4)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    items = [*samples(3), BROKEN, *samples(17)[4:]]
    alone = _loads(_loader(items, micro=2))
    for a, b in zip(alone, _loads(_loader(items, micro=2, workers=workers)), strict=True):
        assert a.step == b.step
        assert [problem.record() for problem in a.problems] == [problem.record() for problem in b.problems]
        for x, y in zip(a.batches, b.batches, strict=True):
            _assert_equal(x, y)


def test_a_load_is_the_same_wherever_iteration_began():
    whole = _loads(_loader())
    for start in (1, 4, 8):
        for a, b in zip(whole[start:], _loads(_loader(), start), strict=True):
            _assert_equal(a.batches[0], b.batches[0])


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("micro", [1, 2, 4])
def test_ranks_and_micro_batches_share_the_same_samples_in_the_same_order(ranks, micro):
    whole = _loads(_loader(batch=7))
    parts = [_loads(_loader(batch=7, rank=rank, ranks=ranks, micro=micro)) for rank in range(ranks)]
    for step, load in enumerate(whole):
        assert load.keys == [key for rank in range(ranks) for key in parts[rank][step].keys]
        assert all(len(parts[rank][step].batches) == micro for rank in range(ranks))
    assert _draws(whole) == _draws([part[step] for step in range(len(whole)) for part in parts])


def test_more_ranks_than_samples_leave_some_without():
    parts = [_loads(_loader(samples(2), rank=rank, ranks=3), 0, 1)[0] for rank in range(3)]
    assert sorted(len(part.keys) for part in parts) == [0, 1, 1]


def test_a_sample_is_drawn_anew_in_each_epoch():
    drawn = _draws(_loads(_loader(batch=17), 0, 3))
    seeds = [drawn[step, "s0"][0][3] for step in range(3)]
    assert len(set(seeds)) == 3


def test_a_broken_sample_is_returned_by_name_and_nothing_else_is_lost():
    items = [*samples(3), BROKEN, *samples(17)[4:]]
    loads = _loads(_loader(items, batch=17), 0, 1)
    assert [problem.record() for problem in loads[0].problems] == [BROKEN.record()]
    assert sorted(loads[0].keys) == sorted(f"s{index}" for index in range(17) if index != 3)


def test_a_batch_of_broken_samples_alone_is_empty():
    (load,) = _loads(_loader([BROKEN, BROKEN], batch=2), 0, 1)
    assert len(load.problems) == 2
    assert [len(batch) for batch in load.batches] == [0]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_global_generators_are_untouched(workers):
    torch.manual_seed(0)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    loader = _loader(workers=workers)
    for _ in loader.iterate(0, 3):
        assert torch.equal(states[0], torch.get_rng_state())
    assert states[1:] == (random.getstate(), np.random.get_state()[1].tolist())


class _Decoded(Words):
    """Words read from a string, and how often."""

    def __init__(self) -> None:
        self.asked = 0

    @property
    def draws(self) -> bool:
        return False

    def prepare(self, raw, generator=None):
        self.asked += 1
        return torch.tensor([1, *raw.encode(), 2])


def test_the_loader_uses_its_cache_and_gives_equal_values():
    items = [
        type(one)(one.key, tuple(type(s)(s.modality, f"t{index}") for s in one.segments))
        for index, one in enumerate(sample(index, ("caption",)) for index in range(6))
    ]
    cached, plain = _Decoded(), _Decoded()
    found = _loads(_loader(items, modalities={"words": cached}, cache=1 << 20), 0, 4)
    expected = _loads(_loader(items, modalities={"words": plain}), 0, 4)
    for a, b in zip(found, expected, strict=True):
        _assert_equal(a.batches[0], b.batches[0])
    assert (cached.asked, plain.asked) == (6, 24)


def test_workers_use_no_file_descriptor_per_tensor():
    """Many small tensors wait in the queue; shared memory would hold one descriptor for each."""
    before = len(os.listdir("/proc/self/fd"))
    held = []
    for load in _loader(batch=17, micro=8, workers=2).iterate(0, 6):
        held.append(load)
        assert len(os.listdir("/proc/self/fd")) < before + 40


def test_values_from_a_worker_can_be_written_to():
    for load in _loader(workers=1).iterate(0, 1):
        load.batches[0].streams["picture"].values.zero_()


class _Signalled(Memory):
    """Its reader is told to stop, as by Ctrl-C or a scheduler that signals the whole process group."""

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(index)


def test_workers_outlive_a_signal_to_the_whole_group():
    source = _Signalled(samples(4))
    order = Order([4], [1.0], batch=4, seed=0)
    loader = Loader([source], order, MODALITIES, draws=Draws(), seed=0, workers=1)
    assert [len(load.keys) for load in loader.iterate(0, 2)] == [4, 4]
