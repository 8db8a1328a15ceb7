"""Two processes joined by gloo train what one process trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from nn.toys import MODALITIES
from training.kit import Memory, lines, plain
from training.ranks import RARE

from sensorium.data.item import Draws
from sensorium.data.loader import Loader
from sensorium.data.order import Order
from sensorium.training.checkpoint import Checkpoints, read
from sensorium.training.distributed import World, clip_gradients, sum_gradients

TESTS = Path(__file__).parents[1]
CLOSE = {"atol": 1e-9, "rtol": 1e-9}
WAYS = ("ddp", "fsdp")


def _ranks(size: int, folder: Path, jobs: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Do the jobs in ``size`` processes; what each rank found, by the name of the run."""
    listed = [{"run": str(folder / name), **job} for name, job in jobs.items()]
    for job in listed:
        Path(job["run"]).mkdir(exist_ok=True)
    (folder / "jobs.json").write_text(json.dumps(listed))
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(TESTS / "training" / "ranks.py"), str(size), str(folder / "jobs.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return {
        name: [json.loads((folder / name / f"rank-{rank}.json").read_text()) for rank in range(size)]
        for name in jobs
    }


BASE: dict[str, Any] = {"duration.steps": 4, "average": 0.9}
#: What is trained in one process and in two.
CASES: dict[str, dict[str, Any]] = {
    "plain": {"settings": BASE},
    "accumulated": {"settings": BASE | {"loading.accumulate": 2}},
    "mixed": {"settings": BASE | {"loading.accumulate": 3, "loading.batch": 7}, "items": "mixed"},
    "frozen": {"settings": BASE | {"freeze": "encoders|log_scale"}},
    "sums": {"settings": BASE, "contrastive": False, "only": ["language"]},
    "aligned": {"settings": BASE | {"loading.accumulate": 2}, "only": []},
    "tiny": {"settings": BASE | {"loading.batch": 1, "loading.accumulate": 2}},
    "validated": {"settings": BASE | {"validate": 2}, "validate": True},
}


def _with(job: dict[str, Any], how: str) -> dict[str, Any]:
    return job | {"settings": job["settings"] | {"distribution": how}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    _ranks(1, folder, {f"{name}-one": job for name, job in CASES.items()})
    _ranks(2, folder, {f"{name}-{how}": _with(job, how) for name, job in CASES.items() for how in WAYS})
    return folder


def _found(run: Path, rank: int = 0) -> dict[str, Any]:
    return json.loads((run / f"rank-{rank}.json").read_text())


def _assert_close(run: Path, expected: Path) -> None:
    a, b = plain(run / "log.jsonl"), plain(expected / "log.jsonl")
    assert len(a) == len(b) > 0
    for line, other in zip(a, b, strict=True):
        assert line.keys() == other.keys()
        assert line["step"] == other["step"]
        if "loss" not in line:
            continue
        assert line["keys"] == other["keys"]
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-9)
        assert line["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-9)
        assert line["losses"] == pytest.approx(other["losses"], rel=1e-9)
    found, wanted = (read(Checkpoints(r / "checkpoints").newest()[0]).tensors for r in (run, expected))
    assert found.keys() == wanted.keys()
    for group, tensors in wanted.items():
        assert found[group].keys() == tensors.keys()
        for name, value in tensors.items():
            torch.testing.assert_close(found[group][name], value, **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


def test_in_some_steps_only_one_rank_has_pictures():
    """So that what follows shows something."""
    lonely = 0
    for rank in (0, 1):
        order = Order([len(RARE)], [1.0], batch=6, seed=0)
        made = [
            Loader([Memory(RARE)], order, MODALITIES, draws=Draws(), seed=0, rank=r, ranks=2).iterate(0, 4)
            for r in (rank, 1 - rank)
        ]
        for mine, other in zip(*made, strict=True):
            has = [bool(len(load.batches[0].streams["picture"])) for load in (mine, other)]
            lonely += has == [True, False]
    assert lonely >= 2


def test_muon_is_the_same_over_replicas_and_refuses_shards(tmp_path):
    jobs = {"muon": {"settings": BASE | {"muon": 1e-3, "loading.accumulate": 2}}}
    _ranks(1, tmp_path, {f"{name}-one": job for name, job in jobs.items()})
    _ranks(2, tmp_path, {f"{name}-{how}": _with(job, how) for name, job in jobs.items() for how in WAYS})
    _assert_close(tmp_path / "muon-ddp", tmp_path / "muon-one")
    assert _found(tmp_path / "muon-fsdp", 1)["said"].startswith("Muon needs whole matrices")


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("case", CASES)
def test_two_processes_equal_one(trained, case, how):
    """Losses, the norm of the gradient, weights, the optimizer's moments, the average, and the keys."""
    _assert_close(trained / f"{case}-{how}", trained / f"{case}-one")


def test_sharding_shards_all_but_scalars_and_replication_nothing(trained):
    fsdp, ddp = _found(trained / "plain-fsdp"), _found(trained / "plain-ddp")
    assert set(fsdp["names"]) - set(fsdp["sharded"]) == {"contrastive_head.log_scale"}
    assert ddp["sharded"] == []


@pytest.mark.parametrize("how", WAYS)
def test_validation_sees_the_averaged_weights_on_every_rank(trained, how):
    expected = _found(trained / "validated-one")["seen"]
    assert len(expected) == 2
    for rank in (0, 1):
        assert _found(trained / f"validated-{how}", rank)["seen"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("how", WAYS)
def test_only_the_first_rank_writes(trained, how):
    files = {name for name in _found(trained / f"plain-{how}")["files"] if not name.startswith("rank-")}
    assert files == {"log.jsonl", "quarantine.jsonl", "checkpoints", "tensorboard"}
    assert [line["step"] for line in lines(trained / f"plain-{how}" / "log.jsonl")] == [1, 2, 3, 4]


def test_a_checkpoint_goes_from_one_process_to_two_sharded_ones_and_back(tmp_path):
    settings = BASE | {"duration.steps": 7}
    _ranks(1, tmp_path, {"whole": {"settings": settings}, "moved": {"settings": settings, "signal_at": 2}})
    _ranks(2, tmp_path, {"moved": {"settings": settings | {"distribution": "fsdp"}, "signal_at": 4}})
    _ranks(2, tmp_path, {"moved": {"settings": settings | {"distribution": "ddp"}, "signal_at": 5}})
    assert Checkpoints(tmp_path / "moved" / "checkpoints").steps() == [4, 5]
    _ranks(1, tmp_path, {"moved": {"settings": settings}})
    _assert_close(tmp_path / "moved", tmp_path / "whole")


#: What goes wrong, mostly on one rank alone.
ODD: dict[str, dict[str, Any]] = {
    "poisoned": {"settings": BASE | {"duration.steps": 6}, "poison": ["s3"]},
    "hopeless": {"settings": BASE | {"limits.skipped": 2}, "poison": [f"s{i}" for i in range(17)]},
    "broken": {"settings": BASE | {"duration.steps": 6}, "items": "broken"},
    "rotten": {"settings": BASE | {"limits.broken_grace": 2}, "items": "broken"},
    "signalled": {"settings": BASE | {"duration.steps": 6}, "signal_at": 3},
    "full": {"settings": BASE | {"saving.steps": 2, "duration.steps": 5}, "full_at": [2]},
    "full at last": {"settings": BASE | {"saving.steps": 2}, "full_at": [4]},
    "minutes": {"settings": {"duration.steps": None, "duration.minutes": 0.01}},
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    _ranks(2, folder, {f"{name}-{how}": _with(job, how) for name, job in ODD.items() for how in WAYS})
    return folder


@pytest.mark.parametrize("how", WAYS)
def test_a_loss_that_is_not_finite_on_one_rank_skips_the_step_on_all(odd, how):
    log = lines(odd / f"poisoned-{how}" / "log.jsonl")
    skipped = [line for line in log if line.get("event") == "skipped"]
    assert skipped
    assert all("s3" in event["keys"] and len(event["keys"]) == 6 for event in skipped)
    assert len(log) == 6
    assert all(_found(odd / f"poisoned-{how}", rank)["finished"] for rank in (0, 1))
    found = read(Checkpoints(odd / f"poisoned-{how}" / "checkpoints").newest()[0])
    assert all(
        bool(value.isfinite().all()) for tensors in found.tensors.values() for value in tensors.values()
    )


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize(
    ("case", "error", "says"),
    [
        ("hopeless", "NotFinite", "in 2 steps in a row"),
        ("rotten", "DataError", "samples are broken"),
        ("full at last", "CheckpointError", "the last checkpoint could not be written"),
    ],
)
def test_every_rank_gives_up_for_the_same_reason(odd, how, case, error, says):
    for rank in (0, 1):
        found = _found(odd / f"{case}-{how}", rank)
        assert found["error"] == error
        assert says in found["said"]


@pytest.mark.parametrize("how", WAYS)
def test_broken_samples_of_all_ranks_are_in_one_quarantine(odd, how):
    run = odd / f"broken-{how}"
    entries = lines(run / "quarantine.jsonl")
    assert [_found(run, rank)["broken"] for rank in (0, 1)] == [len(entries)] * 2
    assert {entry["key"] for entry in entries} == {"b0", "b1", "b2", "b3"}
    assert len({(entry["step"], entry["key"]) for entry in entries}) == len(entries)


@pytest.mark.parametrize("how", WAYS)
def test_a_signal_to_one_rank_stops_all_at_the_same_step(odd, how):
    run = odd / f"signalled-{how}"
    assert [(_found(run, rank)["finished"], _found(run, rank)["step"]) for rank in (0, 1)] == [(False, 3)] * 2
    assert Checkpoints(run / "checkpoints").steps() == [3]


@pytest.mark.parametrize("how", WAYS)
def test_a_full_disk_of_the_first_rank_stops_none(odd, how):
    run = odd / f"full-{how}"
    assert all(_found(run, rank)["finished"] for rank in (0, 1))
    assert Checkpoints(run / "checkpoints").steps() == [4, 5]
    assert [line["step"] for line in lines(run / "log.jsonl") if line.get("event") == "unsaved"] == [2]


@pytest.mark.parametrize("how", WAYS)
def test_a_run_of_minutes_ends_on_all_ranks_at_the_same_step(odd, how):
    found = [_found(odd / f"minutes-{how}", rank) for rank in (0, 1)]
    assert found[0]["step"] == found[1]["step"] > 1
    assert all(one["finished"] for one in found)


def test_running_statistics_are_those_of_the_first_rank_on_all_and_in_the_checkpoint(tmp_path):
    """However often the run stops: what a rank holds never depends on when it was saved."""
    settings = BASE | {"duration.steps": 5}
    job = {"settings": settings, "items": "mixed", "statistics": True, "validate": True}
    jobs = {f"{when}-{how}": _with(job, how) for when in ("whole", "cut") for how in WAYS}
    stops = {f"cut-{how}": jobs[f"cut-{how}"] | {"signal_at": 3} for how in WAYS}
    _ranks(2, tmp_path, stops)
    found = _ranks(2, tmp_path, jobs)
    for name, (first, second) in found.items():
        saved = read(Checkpoints(tmp_path / name / "checkpoints").newest()[0]).tensors
        assert len(first["buffers"]) == 2
        assert first["buffers"] == second["buffers"], name
        for buffer, value in first["buffers"].items():
            assert saved["weights"][buffer].tolist() == saved["average"][buffer].tolist() == value
    for how in WAYS:
        assert found[f"cut-{how}"][1]["buffers"] == found[f"whole-{how}"][1]["buffers"]
        _assert_close(tmp_path / f"cut-{how}", tmp_path / f"whole-{how}")


def test_a_world_of_one_needs_no_others():
    world, rows = World(), torch.ones(2, 3)
    assert world.first
    assert world.gather([1]) == [1]
    assert world.gather_rows(rows) == [rows]
    assert world.agree(2.5) == 2.5
    parameter = torch.nn.Parameter(torch.ones(2))
    sum_gradients([parameter], world)
    assert parameter.grad is None


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_clipping_is_that_of_torch(limit):
    def made():
        torch.manual_seed(0)
        parameters = [torch.nn.Parameter(torch.randn(n)) for n in (3, 4)] + [
            torch.nn.Parameter(torch.ones(1))
        ]
        for parameter in parameters[:2]:
            parameter.grad = torch.randn_like(parameter)
        return parameters

    one, other = made(), made()
    norm = torch.nn.utils.clip_grad_norm_(other, limit)
    torch.testing.assert_close(clip_gradients(one, limit), norm)
    for a, b in zip(one[:2], other[:2], strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    assert one[2].grad is None
    assert float(clip_gradients(made()[2:], limit)) == 0.0
