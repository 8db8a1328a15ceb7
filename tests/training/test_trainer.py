"""What a trainer does when something is wrong: bad numbers, broken samples, a full disk, the clock."""

from __future__ import annotations

import errno
import io
import os
import subprocess
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from nn.toys import model, sample
from rich.console import Console
from training.kit import Poison, broken, centred, lines, objectives, plain, trainer, weights

from sensorium.core import CheckpointError, DataError
from sensorium.objectives import Objective
from sensorium.training import checkpoint, logs
from sensorium.training import trainer as module
from sensorium.training.checkpoint import Checkpoints
from sensorium.training.trainer import NotFinite


def _console() -> Console:
    return Console(file=io.StringIO(), record=True, width=1000)


class Explosive(Objective):
    """Finite, with a gradient that is not, where a batch has a picture of sample ``s3`` in it."""

    weight = 1.0

    def counts(self, batch):
        return {"explosive": int("s3" in batch.keys)}

    def totals(self, outputs):
        scale = outputs.scale
        return {"explosive": (scale - scale.detach()).sqrt().nan_to_num(0.0) * 0.0}


def _poisoned(run: Path, keys: set[str], value: float = float("nan"), **settings: Any):
    network = Poison(model(), keys, value)
    return trainer(run, network=network, settings={"loading.batch": 4, "duration.epochs": None, **settings})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_step_whose_loss_is_not_finite_is_skipped_and_named(tmp_path, value):
    trained, console = _poisoned(tmp_path, {"s3"}, value, **{"duration.steps": 10}), _console()
    trained.console = console
    outcome = trained.run()
    assert outcome.finished
    assert all(bool(p.isfinite().all()) for p in weights(trained).values())
    log = lines(tmp_path / "log.jsonl")
    skipped = [line for line in log if line.get("event") == "skipped"]
    assert len(skipped) in (2, 3)
    for event in skipped:
        assert "s3" in event["keys"]
        assert len(event["keys"]) == 4
        assert "language" in event["reason"]
    steps = [line["step"] for line in log if "loss" in line]
    assert sorted(steps + [event["step"] for event in skipped]) == list(range(1, 11))
    assert all(line["loss"] == line["loss"] for line in log if "loss" in line)
    assert console.export_text().count("skipped: loss") == len(skipped)


def test_a_skipped_step_changes_neither_weights_nor_optimizer_nor_average(tmp_path):
    trained = _poisoned(tmp_path, set(), **{"duration.steps": 6, "validate": 6})
    states: list[dict[str, torch.Tensor]] = []

    def watch(network):
        optimizer = {
            f"{key}/{index}": value.clone()
            for index, p in enumerate(trained.named.values())
            for key, value in trained.optimizer.state.get(p, {}).items()
        }
        swapped = {f"average/{n}": v.clone() for n, v in trained.average.values.items()}
        states.append(weights(trained) | optimizer | swapped)
        trained.model.keys = {f"s{i}" for i in range(17)} if len(states) in (3, 4) else set()
        return {"figures": {}, "examples": []}

    trained.validation = watch
    trained.run()
    equal = [all(torch.equal(a[n], b[n]) for n in b) for a, b in pairwise(states)]
    assert equal == [False, False, True, True, False]


def test_a_skipped_step_leaves_no_trace_in_running_statistics(tmp_path):
    network = Poison(centred(), {"s3"}, float("nan"))
    trained = trainer(tmp_path, network=network, settings={"loading.batch": 4, "duration.steps": 10})
    trained.run()
    skipped = [line for line in lines(tmp_path / "log.jsonl") if line.get("event") == "skipped"]
    assert skipped
    statistics = network.network.trunk.blocks[-1].norm_attention[0]
    assert int(statistics.batches) == 10 - len(skipped)


def test_a_gradient_that_is_not_finite_is_skipped_too(tmp_path):
    losses = objectives() | {"explosive": Explosive()}
    trained = trainer(tmp_path, losses=losses, settings={"duration.steps": 3, "limits.skipped": 5})
    trained.run()
    skipped = [line for line in lines(tmp_path / "log.jsonl") if line.get("event") == "skipped"]
    assert [event["reason"] for event in skipped] == ["the gradient is not finite"] * 3
    assert all(bool(p.isfinite().all()) for p in weights(trained).values())


def test_too_many_in_a_row_end_the_run_and_earlier_checkpoints_stay(tmp_path):
    trained = _poisoned(
        tmp_path, set(), **{"duration.steps": 30, "saving.steps": 2, "limits.skipped": 3, "validate": 30}
    )

    def poison(network):
        if trained.progress.step >= 5:
            trained.model.keys = {f"s{i}" for i in range(17)}
        return {"figures": {}, "examples": []}

    trained.validation = poison
    with pytest.raises(
        NotFinite, match=r"not finite in 3 steps in a row, the last at step 8: loss nan: language"
    ) as caught:
        trained.run()
    assert "s1" in str(caught.value)
    assert "log.jsonl" in str(caught.value)
    assert Checkpoints(tmp_path / "checkpoints").steps() == [4, 6]


def test_skips_that_are_not_in_a_row_are_forgiven(tmp_path):
    trained = _poisoned(tmp_path, {"s3"}, **{"duration.steps": 30, "limits.skipped": 2})
    assert trained.run().finished
    assert sum(line.get("event") == "skipped" for line in lines(tmp_path / "log.jsonl")) > 4


# Broken samples.


def test_broken_samples_are_quarantined_counted_and_named(tmp_path):
    trained = trainer(tmp_path, items=broken(3, 12), settings={"duration.steps": 4})
    outcome = trained.run()
    entries = lines(tmp_path / "quarantine.jsonl")
    assert outcome.broken == len(entries) == 6
    assert trained.progress.seen == 24
    for entry in entries:
        index = int(entry["key"][1:])
        assert entry | {"step": 0} == {
            "key": f"b{index}", "file": "list.jsonl", "line": index + 1, "field": "image",
            "reason": "cannot be decoded", "step": 0,
        }  # fmt: skip
        assert 1 <= entry["step"] <= 4
    assert {entry["key"] for entry in entries} == {"b0", "b1", "b2"}


def test_a_rerun_quarantines_the_same(tmp_path):
    for name in ("a", "b"):
        trainer(tmp_path / name, items=broken(3, 12)).run()
    assert (tmp_path / "a" / "quarantine.jsonl").read_bytes() == (
        tmp_path / "b" / "quarantine.jsonl"
    ).read_bytes()


def test_too_many_broken_samples_end_the_run_with_the_file_that_names_them(tmp_path):
    settings = {"limits.broken": 0.1, "limits.broken_grace": 3, "duration.steps": 100}
    trained = trainer(tmp_path, items=broken(6, 17), settings=settings)
    with pytest.raises(
        DataError, match=r"\d of \d+ samples are broken, more than limits.broken = 10%"
    ) as caught:
        trained.run()
    assert str(tmp_path / "quarantine.jsonl") in str(caught.value)
    assert len(lines(tmp_path / "quarantine.jsonl")) >= 4


def test_a_few_broken_samples_are_within_the_grace(tmp_path):
    settings = {"limits.broken": 0.0, "limits.broken_grace": 3}
    assert trainer(tmp_path, items=broken(1, 17), settings=settings | {"duration.steps": 5}).run().finished


def test_a_step_of_nothing_but_broken_samples_is_survived(tmp_path):
    items = [*broken(2, 2), sample(2)]
    trained = trainer(tmp_path, items=items, settings={"loading.batch": 1, "limits.broken": 1.0})
    assert trained.run().finished
    assert all(bool(p.isfinite().all()) for p in weights(trained).values())


# A full disk.


def test_a_full_disk_at_a_save_on_the_way_is_told_and_the_run_goes_on(tmp_path, monkeypatch):
    console, real = _console(), checkpoint._write

    def write(directory, content):
        if content.state["step"] in (2, 4):
            raise OSError(errno.ENOSPC, "No space left on device")
        real(directory, content)

    monkeypatch.setattr(checkpoint, "_write", write)
    trained = trainer(tmp_path / "full", settings={"saving.steps": 2}, console=console)
    assert trained.run().finished
    assert console.export_text().count("No space left on device; going on") == 2
    assert Checkpoints(tmp_path / "full" / "checkpoints").steps() == [6]
    log = plain(tmp_path / "full" / "log.jsonl")
    assert [line["step"] for line in log if line.get("event") == "unsaved"] == [2, 4]
    monkeypatch.undo()
    trainer(tmp_path / "room", settings={"saving.steps": 2}).run()
    assert [line for line in log if "loss" in line] == plain(tmp_path / "room" / "log.jsonl")


def test_a_failing_last_save_says_what_is_left(tmp_path, monkeypatch):
    def write(directory, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    trainer(tmp_path, settings={"saving.steps": 2, "duration.steps": 4}).run()
    monkeypatch.setattr(checkpoint, "_write", write)
    trained = trainer(tmp_path, settings={"saving.steps": 2, "duration.steps": 7})
    with pytest.raises(
        CheckpointError, match=r"step-000000007: the last checkpoint could not be written.*No space"
    ) as caught:
        trained.run()
    assert "that of step 4 is intact" in str(caught.value)
    monkeypatch.undo()
    assert trainer(tmp_path, settings={"saving.steps": 2, "duration.steps": 7}).run().finished


def test_a_save_that_failed_is_tried_again_when_a_signal_ends_the_run(tmp_path, monkeypatch):
    """The step is the same, but nothing was saved at it."""
    real, refuse = checkpoint._write, [True]

    def write(directory, content):
        if refuse.pop() if refuse else False:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(directory, content)

    monkeypatch.setattr(checkpoint, "_write", write)
    trained = trainer(tmp_path, settings={"saving.steps": 2})
    stop = module.Trainer._step

    def step(self, load):
        self.asked = self.progress.step == 1
        return stop(self, load)

    monkeypatch.setattr(module.Trainer, "_step", step)
    assert trained.run().step == 2
    assert Checkpoints(tmp_path / "checkpoints").steps() == [2]


def test_a_real_full_disk_stops_neither_the_run_nor_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "find_spec", lambda name: None)  # its thread would print a traceback
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(disk)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        _fill_and_free(disk)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def _fill_and_free(disk: Path) -> None:
    settings = {"saving.steps": 2, "duration.steps": 12, "validate": 12, "saving.keep": 1}
    console, ballast = _console(), disk / "ballast"
    trained = trainer(disk / "run", settings=settings, console=console)

    def fill(network):
        if trained.progress.step == 3:
            with ballast.open("wb", buffering=0) as file, suppress(OSError):
                while True:
                    file.write(b"x" * 512)
            assert os.statvfs(disk).f_bavail == 0
        if trained.progress.step == 9:
            assert Checkpoints(disk / "run" / "checkpoints").newest()[0].name == "step-000000002"
            assert not list((disk / "run" / "checkpoints").glob(".*"))
            ballast.unlink()
        return {"figures": {}, "examples": ["x" * 4096]}

    trained.validation = fill
    assert trained.run().finished
    assert "No space left on device" in console.export_text()
    assert Checkpoints(disk / "run" / "checkpoints").newest() == (
        Checkpoints(disk / "run" / "checkpoints").path(12),
        [],
    )
    assert [line["step"] for line in lines(disk / "run" / "log.jsonl") if "loss" in line] == list(
        range(1, 13)
    )


# The clock.


class Clock:
    """A clock that goes on by a second at each look."""

    def __init__(self, start: float) -> None:
        self.now = start

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


def test_a_run_of_minutes_ends_on_time_and_its_schedule_follows_the_clock(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "time", Clock(1000.0))
    settings = {
        "duration.steps": None,
        "duration.minutes": 1.0,
        "saving.minutes": 1e6,
        "schedule.warmup": 0.5,
    }
    trained = trainer(tmp_path, settings=settings)
    outcome = trained.run()
    log = lines(tmp_path / "log.jsonl")
    assert outcome.finished
    assert 60 <= outcome.seconds < 60 + 5
    assert log[-1]["seconds"] == outcome.seconds
    rates = [line["learning_rate"] for line in log]
    assert max(rates) > 0.9 * 3e-3
    assert rates[0] == pytest.approx(3e-6)
    assert rates[-1] < 0.3 * 3e-3
    middle = max(range(len(rates)), key=rates.__getitem__)
    assert log[middle - 1]["seconds"] == pytest.approx(30, abs=4)


def test_the_time_spent_counts_across_interruptions(tmp_path, monkeypatch):
    settings = {"duration.steps": None, "duration.minutes": 1.0, "saving.steps": 5}
    monkeypatch.setattr(module, "time", Clock(1000.0))
    first = trainer(tmp_path, settings=settings)
    real = module.Trainer._step

    def step(self, load):
        self.asked = self.asked or self.progress.seconds > 20
        return real(self, load)

    with monkeypatch.context() as patch:
        patch.setattr(module.Trainer, "_step", step)
        stopped = first.run()
    assert not stopped.finished
    assert 20 < stopped.seconds < 30
    monkeypatch.setattr(module, "time", Clock(0.0))
    finished = trainer(tmp_path, settings=settings).run()
    assert finished.finished
    assert 60 <= finished.seconds < 65


# Long runs.


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_does_not_grow_over_many_steps(tmp_path):
    seen: list[int] = []

    def watch(network):
        seen.append(_resident())
        return {"figures": {}, "examples": []}

    settings = {"duration.steps": 200, "validate": 20, "saving.steps": 25, "loading.accumulate": 2}
    assert trainer(tmp_path, settings=settings, validate=watch).run().finished
    assert len(seen) == 20
    assert max(seen[10:]) - seen[5] < 8 << 20
    assert len(list((tmp_path / "checkpoints").iterdir())) == 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch itself
def test_a_compiled_model_gives_the_same_losses(tmp_path, monkeypatch):
    """Traced and differentiated ahead of time; C++ is not generated, which would take minutes."""
    compiled = []

    def trace(function, **options):
        compiled.append(function)
        return real(function, backend="aot_eager", **options)

    real = torch.compile
    monkeypatch.setattr(torch, "compile", trace)
    for name, on in (("plain", False), ("compiled", True)):
        trainer(tmp_path / name, settings={"compile": on, "duration.steps": 2}).run()
    assert len(compiled) == 1
    found, expected = (
        [line["loss"] for line in lines(tmp_path / n / "log.jsonl")] for n in ("compiled", "plain")
    )
    assert found == pytest.approx(expected, rel=1e-6)
