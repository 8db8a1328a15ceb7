"""A real process that trains: signals, kill -9, and the lock of its run directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from training.kit import plain

from sensorium.core import ConfigError
from sensorium.training.checkpoint import Checkpoints, read
from sensorium.training.lock import locked

TESTS = Path(__file__).parents[1]


def _start(run: Path, pause: float = 0.0, workers: int = 0) -> subprocess.Popen:
    command = [sys.executable, str(TESTS / "training" / "process.py"), str(run), str(pause), str(workers)]
    environment = os.environ | {"PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"}
    pipe = subprocess.PIPE
    # A group of its own, so that a signal to the group reaches its loader processes and not the tests.
    return subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    )


def _wait_for_steps(run: Path, count: int, process: subprocess.Popen) -> None:
    for _ in range(600):
        if (run / "log.jsonl").is_file() and (run / "log.jsonl").read_bytes().count(b"\n") >= count:
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    raise AssertionError("no step was taken")


def _end(process: subprocess.Popen) -> tuple[str, str]:
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return said.strip(), errors


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("whole")
    assert _end(_start(run))[0] == "True 40"
    return run


def _assert_same(run: Path, whole: Path) -> None:
    assert plain(run / "log.jsonl") == plain(whole / "log.jsonl")
    found, expected = (read(Checkpoints(r / "checkpoints").newest()[0]).tensors for r in (run, whole))
    for group, tensors in expected.items():
        assert all(torch.equal(found[group][name], value) for name, value in tensors.items())


@pytest.mark.parametrize("workers", [0, 2])
def test_sigterm_to_the_whole_group_saves_leaves_and_the_run_goes_on_as_if_nothing_had_been(
    whole, tmp_path, workers
):
    process = _start(tmp_path, 0.05, workers)
    _wait_for_steps(tmp_path, 3, process)
    os.killpg(process.pid, signal.SIGTERM)
    said, errors = _end(process)
    finished, step = said.split()
    assert finished == "False"
    assert 3 <= int(step) < 40
    assert "Traceback" not in errors
    assert Checkpoints(tmp_path / "checkpoints").steps() == [int(step)]
    assert _end(_start(tmp_path, 0.0, workers))[0] == "True 40"
    _assert_same(tmp_path, whole)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_second_process_is_refused_with_the_pid_and_kill_9_frees_the_run_at_once(tmp_path, workers):
    process = _start(tmp_path, 0.2, workers)
    _wait_for_steps(tmp_path, 1, process)
    with pytest.raises(ConfigError, match=f"is in use by process {process.pid}: "), locked(tmp_path):
        pass
    process.kill()
    process.wait()
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())
    process.communicate(timeout=20)  # which waits for its loader processes, too


def test_the_lock_is_free_after_it_was_held(tmp_path):
    for _ in range(2):
        with locked(tmp_path / "new" / "run"):
            pass
