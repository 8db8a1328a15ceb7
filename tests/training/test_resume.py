"""A run that was interrupted and taken up again is bit for bit the run that was not."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from nn.toys import model
from rich.console import Console
from training.kit import centred, lines, plain, samples, trainer

from sensorium.core import CheckpointError, DataError
from sensorium.training.checkpoint import Checkpoint, Checkpoints, read
from sensorium.training.trainer import Trainer

STEPS = 8  # of 6 samples out of 17: an epoch ends within the third and the sixth
BROKEN = [DataError("not a picture", key=f"b{n}", file="list.jsonl", line=n, field="picture") for n in (3, 9)]
ITEMS = [*samples(3), BROKEN[0], *samples(9)[4:], BROKEN[1], *samples(17)[10:]]


class Power(Exception):
    """It fails."""


def _trainer(run: Path, **settings: Any) -> Trainer:
    return trainer(
        run,
        items=ITEMS,
        settings={"duration.steps": STEPS, "saving.steps": 3, "average": 0.9, **settings},
        validate=_validate,
    )


def _validate(network):
    """Figures that depend on the averaged weights; it draws random numbers, too."""
    weight = next(network.parameters()).detach()
    return {"figures": {"toy R@1": float(weight.norm()), "noise": float(torch.rand(())) * 0}, "examples": []}


def _interrupt(monkeypatch, after: int, how=None) -> None:
    """The power fails when so many steps were taken; or ``how`` is called then."""
    real = Trainer._step

    def step(self, load):
        found = real(self, load)
        if self.progress.step == after:
            if how is None:
                raise Power
            how()
        return found

    monkeypatch.setattr(Trainer, "_step", step)


def _until_done(run: Path, **settings: Any) -> None:
    assert _trainer(run, **settings).run().finished


def _assert_same(found: Path, expected: Path) -> None:
    assert plain(found / "log.jsonl") == plain(expected / "log.jsonl")
    assert lines(found / "quarantine.jsonl") == lines(expected / "quarantine.jsonl")
    paths = [Checkpoints(run / "checkpoints").newest()[0] for run in (found, expected)]
    assert paths[0].name == paths[1].name == f"step-{STEPS:09d}"
    one, other = (read(path) for path in paths)
    assert one.tensors.keys() == other.tensors.keys() == {"weights", "optimizer", "average"}
    for group, tensors in other.tensors.items():
        assert one.tensors[group].keys() == tensors.keys()
        for name, value in tensors.items():
            assert torch.equal(one.tensors[group][name], value), (group, name)
    numbers = ("step", "seen", "broken", "skipped")
    assert [one.state[name] for name in numbers] == [other.state[name] for name in numbers]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("whole")
    _until_done(run, validate=4)
    return run


def test_the_uninterrupted_run_has_what_is_to_be_compared(whole):
    """Losses that change, keys, validations, quarantine entries and an average that is not the weights."""
    log = plain(whole / "log.jsonl")
    steps = [record for record in log if "loss" in record]
    assert [record["step"] for record in steps] == list(range(1, STEPS + 1))
    assert len({record["loss"] for record in steps}) == STEPS
    assert len({record["keys"] for record in steps}) == STEPS
    assert [record["step"] for record in log if record.get("event") == "validation"] == [2, 4, 6, 8]
    assert len(lines(whole / "quarantine.jsonl")) > 4
    found = read(Checkpoints(whole / "checkpoints").newest()[0])
    assert any(not torch.equal(found.tensors["average"][n], v) for n, v in found.tensors["weights"].items())


@pytest.mark.parametrize("after", range(1, STEPS + 1))
def test_a_power_failure_after_any_step(whole, tmp_path, monkeypatch, after):
    with monkeypatch.context() as patch:
        _interrupt(patch, after)
        with pytest.raises(Power):
            _trainer(tmp_path, validate=4).run()
    _until_done(tmp_path, validate=4)
    _assert_same(tmp_path, whole)


@pytest.mark.parametrize("after", [2, 4, 7])
def test_with_loader_processes(whole, tmp_path, monkeypatch, after):
    settings = {"validate": 4, "loading.workers": 2}
    with monkeypatch.context() as patch:
        _interrupt(patch, after)
        with pytest.raises(Power):
            _trainer(tmp_path, **settings).run()
    _until_done(tmp_path, **settings)
    _assert_same(tmp_path, whole)


def test_one_failure_after_the_other(whole, tmp_path, monkeypatch):
    for after in (2, 4, 5, 7, 8):
        with monkeypatch.context() as patch:
            _interrupt(patch, after)
            with pytest.raises(Power):
                _trainer(tmp_path, validate=4).run()
    _until_done(tmp_path, validate=4)
    _assert_same(tmp_path, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("after", [1, 5])
def test_a_signal_saves_and_leaves(whole, tmp_path, monkeypatch, after, number):
    handlers = [signal.getsignal(known) for known in (signal.SIGTERM, signal.SIGINT)]
    with monkeypatch.context() as patch:
        _interrupt(patch, after, lambda: os.kill(os.getpid(), number))
        outcome = _trainer(tmp_path, validate=4).run()
    # The signal came when the ranks had agreed on this step; they agree on the signal in the next.
    assert (outcome.finished, outcome.step) == (False, after + 1)
    assert Checkpoints(tmp_path / "checkpoints").steps()[-1] == after + 1
    assert [signal.getsignal(known) for known in (signal.SIGTERM, signal.SIGINT)] == handlers
    _until_done(tmp_path, validate=4)
    _assert_same(tmp_path, whole)


def test_a_finished_run_has_nothing_left_to_do(whole, tmp_path):
    run = tmp_path / "run"
    _until_done(run, validate=4)
    before = (run / "log.jsonl").read_bytes()
    assert _trainer(run, validate=4).run().step == STEPS
    assert (run / "log.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "settings", [{"loading.accumulate": 2}, {"muon": 1e-3}], ids=["accumulation", "muon"]
)
def test_other_settings_resume_too(tmp_path, monkeypatch, settings):
    _until_done(tmp_path / "whole", **settings)
    with monkeypatch.context() as patch:
        _interrupt(patch, 5)
        with pytest.raises(Power):
            _trainer(tmp_path / "cut", **settings).run()
    _until_done(tmp_path / "cut", **settings)
    _assert_same(tmp_path / "cut", tmp_path / "whole")


def test_a_model_that_draws_random_numbers_resumes_too(tmp_path, monkeypatch):
    def dropped(run: Path) -> Trainer:
        network = model()
        for block in network.trunk.blocks:
            block.norm_attention = torch.nn.Sequential(block.norm_attention, torch.nn.Dropout(0.5))
        settings = {"duration.steps": STEPS, "saving.steps": 3, "average": 0.9}
        return trainer(run, items=ITEMS, settings=settings, network=network)

    assert dropped(tmp_path / "whole").run().finished
    with monkeypatch.context() as patch:
        _interrupt(patch, 5)
        with pytest.raises(Power):
            dropped(tmp_path / "cut").run()
    torch.manual_seed(99)
    assert dropped(tmp_path / "cut").run().finished
    _assert_same(tmp_path / "cut", tmp_path / "whole")


def test_running_statistics_resume_too_and_go_with_the_average(tmp_path, monkeypatch):
    def run(place: Path) -> Trainer:
        settings = {"duration.steps": STEPS, "saving.steps": 3, "average": 0.9, "validate": 4}

        def look(network):
            return {"figures": {"toy R@1": float(network.trunk.blocks[-1].norm_attention[0].mean.norm())}}

        return trainer(place, items=ITEMS, settings=settings, network=centred(), validate=look)

    assert run(tmp_path / "whole").run().finished
    with monkeypatch.context() as patch:
        _interrupt(patch, 5)
        with pytest.raises(Power):
            run(tmp_path / "cut").run()
    assert run(tmp_path / "cut").run().finished
    _assert_same(tmp_path / "cut", tmp_path / "whole")
    found = read(Checkpoints(tmp_path / "cut" / "checkpoints").newest()[0]).tensors
    place = "trunk.blocks.2.norm_attention.0."
    for group in ("weights", "average"):
        assert found[group][place + "mean"].abs().sum() > 0
        assert int(found[group][place + "batches"]) == STEPS
        assert place + "cache" not in found[group]
    assert not any(place + "mean" in name for name in found["optimizer"])


def test_a_checkpoint_without_the_statistics_is_refused(tmp_path):
    path = Checkpoints(tmp_path / "checkpoints")
    first = trainer(tmp_path, network=centred())
    first.run()
    found = read(path.newest()[0])
    name = "trunk.blocks.2.norm_attention.0.mean"
    short = {
        group: {n: value for n, value in tensors.items() if n != name}
        for group, tensors in found.tensors.items()
    }
    path.save(9, Checkpoint(short, found.state))
    with pytest.raises(CheckpointError, match=rf"weights.*tensor '{name}' is missing"):
        trainer(tmp_path, network=centred()).run()


def test_the_digest_of_keys_tells_other_samples(tmp_path):
    """In whatever order within the step, but which and how often."""
    first, second, again = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    _until_done(first)
    _until_done(second, seed=1)
    _until_done(again, **{"loading.accumulate": 3})
    keys = [[line["keys"] for line in lines(run / "log.jsonl")] for run in (first, second, again)]
    assert keys[0] == keys[2]
    assert not set(keys[0]) & set(keys[1])
    assert all(len(key) == 8 and int(key, 16) >= 0 for key in keys[0])


# Damage.


def _console() -> Console:
    return Console(file=io.StringIO(), record=True, width=1000)


@pytest.mark.parametrize(
    "name",
    ["weights.safetensors", "optimizer.safetensors", "average.safetensors", "state.json", "hashes.json"],
)
def test_a_flipped_byte_means_the_checkpoint_before_and_the_same_result(whole, tmp_path, monkeypatch, name):
    with monkeypatch.context() as patch:
        _interrupt(patch, 7)
        with pytest.raises(Power):
            _trainer(tmp_path, validate=4).run()
    file = tmp_path / "checkpoints" / "step-000000006" / name
    data = bytearray(file.read_bytes())
    data[-5] ^= 4
    file.write_bytes(data)
    resumed, console = _trainer(tmp_path, validate=4), _console()
    resumed.console = console
    assert resumed.run().finished
    said = console.export_text()
    assert "step-000000006" in said
    assert "the checkpoint is damaged; trying the one before" in said
    assert "resuming from step 3" in said
    _assert_same(tmp_path, whole)


def test_a_damaged_checkpoint_does_not_count_among_those_that_are_kept(tmp_path, monkeypatch):
    """Else the next damage would leave nothing to go back to."""
    with monkeypatch.context() as patch:
        _interrupt(patch, 7)
        with pytest.raises(Power):
            _trainer(tmp_path).run()
    (tmp_path / "checkpoints" / "step-000000006" / "state.json").unlink()
    with monkeypatch.context() as patch:
        _interrupt(patch, 4, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert _trainer(tmp_path).run().step == 5
    assert Checkpoints(tmp_path / "checkpoints").steps() == [3, 5]
    assert (tmp_path / "checkpoints" / "damaged-step-000000006").is_dir()


def test_with_every_checkpoint_damaged_nothing_is_overwritten(tmp_path):
    _until_done(tmp_path)
    for step in (6, 8):
        (tmp_path / "checkpoints" / f"step-{step:09d}" / "state.json").write_text("{}")
    before = (tmp_path / "log.jsonl").read_bytes()
    for _ in range(2):
        with pytest.raises(CheckpointError, match=r"every checkpoint of .* is damaged: choose another --out"):
            _trainer(tmp_path).run()
    assert (tmp_path / "log.jsonl").read_bytes() == before


def _rewrite(run: Path, group: str, change) -> None:
    """The newest checkpoint with other tensors, and right hashes."""
    checkpoints = Checkpoints(run / "checkpoints")
    path, _ = checkpoints.newest()
    found = read(path)
    changed = {name: dict(tensors) for name, tensors in found.tensors.items()}
    change(changed[group])
    for step in checkpoints.steps():
        checkpoints.set_aside(step)
    checkpoints.save(found.state["step"], Checkpoint(changed, found.state))


@pytest.mark.parametrize("group", ["weights", "average", "optimizer"])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensors, name: tensors.pop(name), "'{name}' is missing"),
        (
            lambda tensors, name: tensors.update({name: torch.zeros(7, 7, 7)}),
            r"'{name}' has shape \[7, 7, 7\], expected",
        ),
        (
            lambda tensors, name: tensors.update({"exp_avg/extra": torch.zeros(1)}),
            "'exp_avg/extra' is not part of the model",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named_and_nothing_is_loaded(tmp_path, group, change, says):
    _until_done(tmp_path)
    name = "trunk.blocks.0.attention.qkv.weight"
    name = f"exp_avg/{name}" if group == "optimizer" else name
    _rewrite(tmp_path, group, lambda tensors: change(tensors, name))
    resumed = _trainer(tmp_path)
    before = {n: p.detach().clone() for n, p in resumed.named.items()}
    with pytest.raises(CheckpointError, match=rf"{group}\.safetensors: the tensor " + says.format(name=name)):
        resumed.run()
    assert all(torch.equal(resumed.named[n], value) for n, value in before.items())


def test_a_state_of_another_version_is_named(tmp_path):
    _until_done(tmp_path)
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    path, _ = checkpoints.newest()
    found = read(path)
    for step in checkpoints.steps():
        checkpoints.set_aside(step)
    checkpoints.save(STEPS, Checkpoint(found.tensors, found.state | {"mood": 3}))
    with pytest.raises(CheckpointError, match=r"state\.json: has .*mood.*, expected"):
        _trainer(tmp_path).run()
