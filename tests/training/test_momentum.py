"""Slow copies and queues in a run: they follow accepted steps alone, and are saved with everything else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from nn.toys import model, sample
from torch import nn
from training.kit import centred, plain, trainer
from training.test_distributed import BASE, _assert_close, _ranks

from sensorium.nn.architectures.momentum import Momentum
from sensorium.training.checkpoint import Checkpoints, read
from sensorium.training.trainer import Trainer

ITEMS = [sample(index, ("picture", "caption")) for index in range(17)]


def _momentum() -> Momentum:
    return Momentum(network=model(), names=["picture", "words"], embedding=8, size=9, decay=0.8)


def _trainer(run: Path, network: nn.Module | None = None, **settings) -> Trainer:
    asked = {"saving.steps": 2, "average": 0.9, "loading.accumulate": 2, "duration.steps": 6, **settings}
    return trainer(run, settings=asked, items=ITEMS, network=network or _momentum(), losses={})


def _tensors(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    return dict(read(Checkpoints(run / "checkpoints").newest()[0]).tensors)


class Power(Exception):
    """It fails."""


@pytest.mark.parametrize("after", [3, 4])
def test_a_resumed_run_has_the_same_queues_and_copy(tmp_path, monkeypatch, after):
    whole = _trainer(tmp_path / "whole")
    assert whole.run().finished
    real = Trainer._step

    def step(self, load):
        found = real(self, load)
        if self.progress.step == after:
            raise Power
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", step)
        with pytest.raises(Power):
            _trainer(tmp_path / "cut").run()
    assert _trainer(tmp_path / "cut").run().finished
    assert plain(tmp_path / "cut" / "log.jsonl") == plain(tmp_path / "whole" / "log.jsonl")
    found, wanted = _tensors(tmp_path / "cut"), _tensors(tmp_path / "whole")
    assert {"queue_words", "filled", "slow.trunk.blocks.0.attention.qkv.weight"} <= wanted["weights"].keys()
    for group, tensors in wanted.items():
        assert found[group].keys() == tensors.keys()
        for name, value in tensors.items():
            assert torch.equal(found[group][name], value), (group, name)
    assert int(wanted["weights"]["filled"].min()) == 9


def test_the_copy_follows_once_per_step_and_gets_no_gradient(tmp_path):
    network = _momentum()
    at_first = {name: value.clone() for name, value in network.slow.named_buffers()}
    assert _trainer(tmp_path, network, **{"duration.steps": 2}).run().finished
    trained = dict(network.network.named_parameters())
    moved = 0
    for name, value in network.slow.named_buffers():
        start, end = at_first[name], trained[name].detach()
        assert not value.requires_grad
        if not torch.equal(start, end):
            moved += 1
            assert not torch.equal(value, start)
            assert (value - start).norm() < 0.5 * (end - start).norm()
    assert moved > 10


def test_the_copy_has_the_running_statistics_of_the_moment(tmp_path):
    network = Momentum(network=centred(), names=["picture", "words"], embedding=8, size=9)
    assert _trainer(tmp_path, network, **{"duration.steps": 2}).run().finished
    own, copied = (dict(one.named_buffers()) for one in (network.network, network.slow))
    statistics = {name for name in own if name.endswith(("mean", "batches"))}
    assert len(statistics) == 2
    assert all(bool(own[name].any()) and torch.equal(own[name], copied[name]) for name in statistics)


def test_a_skipped_step_leaves_no_trace(tmp_path):
    """Neither in the copy nor in the queues."""

    class Poisoned(Momentum):
        def forward(self, batch, embed_only=False):
            found = super().forward(batch, embed_only=embed_only)
            if self.training and "s3" in batch.keys:
                found.embeddings["words"].vectors.data.fill_(float("nan"))
            return found

    network = Poisoned(network=model(), names=["picture", "words"], embedding=8, size=9, decay=0.8)
    run = _trainer(tmp_path, network, **{"loading.accumulate": 1})
    real, skipped = Trainer._step, []

    def step(load):
        before = {name: value.clone() for name, value in network.named_buffers()}
        found = real(run, load)
        same = all(torch.equal(value, before[name]) for name, value in network.named_buffers())
        skipped.append((found[0] is None, same))
        return found

    run._step = step  # type: ignore[method-assign]
    assert run.run().finished
    assert set(skipped) == {(True, True), (False, False)}


def test_processes_with_micro_batches_equal_one_with_whole_batches(tmp_path):
    """Losses, weights, the copy and the queues, to 1e-9; pictures are rare: processes remember unequal parts."""
    job = {"settings": BASE | {"duration.steps": 5}, "only": [], "momentum": True}
    cut = job | {"settings": job["settings"] | {"loading.accumulate": 2}}
    _ranks(1, tmp_path, {"whole": job, "cut": cut})
    found = _ranks(2, tmp_path, {"divided": cut})["divided"]
    for name in ("cut", "divided"):
        _assert_close(tmp_path / name, tmp_path / "whole")
    assert found[0]["buffers"] == found[1]["buffers"]
    assert found[0]["buffers"]["filled"] == [4, 9]


def test_a_sharded_network_has_no_copy(tmp_path):
    sharded = {"settings": BASE | {"distribution": "fsdp"}, "only": [], "momentum": True}
    for found in _ranks(2, tmp_path, {"sharded": sharded})["sharded"]:
        assert found["error"] == "CapabilityError"
        assert "distribution" in found["said"]
