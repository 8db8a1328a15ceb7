"""Checkpoints: complete or absent, whatever happens while one is written, and never read when damaged."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from sensorium.core import CheckpointError
from sensorium.training import checkpoint
from sensorium.training.checkpoint import Checkpoint, Checkpoints, check_names, read, verify

FILES = ("weights.safetensors", "optimizer.safetensors", "average.safetensors", "state.json", "hashes.json")


def _content(step: int) -> Checkpoint:
    tensors = {"a": torch.full((3, 2), float(step)), "b": torch.arange(step + 1)}
    return Checkpoint({"weights": tensors, "optimizer": tensors, "average": tensors}, {"step": step})


def _equal(path: Path, step: int) -> bool:
    found, expected = read(path), _content(step)
    same = all(
        torch.equal(found.tensors[group][name], value)
        for group, tensors in expected.tensors.items()
        for name, value in tensors.items()
    )
    return same and found.state == expected.state


def _names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_what_is_read_is_what_was_saved(tmp_path):
    path = Checkpoints(tmp_path / "deep" / "er").save(7, _content(7))
    verify(path)
    assert _equal(path, 7)
    assert set(_names(path)) == set(FILES)
    assert read(path, ("weights",)).tensors.keys() == {"weights"}


def test_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 10, 9999999999):
        checkpoints.save(step, _content(1))
    assert checkpoints.steps() == [10, 9999999999]
    assert checkpoints.newest() == (checkpoints.path(9999999999), [])


def test_a_whole_checkpoint_of_the_same_step_is_left_alone_and_a_damaged_one_replaced(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=1)
    path = checkpoints.save(3, _content(3))
    before = path.stat().st_ino
    checkpoints.save(3, _content(3))
    assert path.stat().st_ino == before
    (path / "state.json").write_text("{}")
    checkpoints.save(3, _content(3))
    assert _equal(path, 3)
    assert _names(tmp_path) == ["damaged-step-000000003", "step-000000003"]


def test_other_files_are_no_checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for name in ("step-", "step-x", ".step-000000001.tmp", "damaged-step-000000002", "notes"):
        (tmp_path / name).mkdir()
    assert checkpoints.steps() == []
    assert checkpoints.newest() == (None, [])
    assert Checkpoints(tmp_path / "absent").newest() == (None, [])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("how", ["flip", "truncate", "empty", "remove", "extend"])
def test_any_damage_to_any_file_is_found_and_the_one_before_is_used(tmp_path, name, how):
    checkpoints = Checkpoints(tmp_path)
    for step in (4, 8):
        checkpoints.save(step, _content(step))
    file = checkpoints.path(8) / name
    data = bytearray(file.read_bytes())
    if how == "flip":
        data[len(data) // 2] ^= 1
    elif how == "truncate":
        del data[-1:]
    elif how == "extend":
        data += b"x"
    file.write_bytes(b"" if how == "empty" else bytes(data))
    if how == "remove":
        file.unlink()
    path, damaged = checkpoints.newest()
    assert path == checkpoints.path(4)
    assert _equal(path, 4)
    (sentence,) = damaged
    # A hash that was damaged accuses the file that it belongs to.
    assert "step-000000008" in sentence
    assert "the checkpoint is damaged" in sentence
    if name != "hashes.json":
        assert name in sentence


def test_every_single_byte_of_the_state_counts(tmp_path):
    path = Checkpoints(tmp_path).save(1, _content(1))
    whole = (path / "state.json").read_bytes()
    for place in range(len(whole)):
        (path / "state.json").write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        with pytest.raises(CheckpointError, match="differs from its hash"):
            verify(path)


@pytest.mark.parametrize("text", ["[]", "{}", "null", '{"weights.safetensors": 3}'])
def test_a_list_of_hashes_that_lists_nothing_is_damage(tmp_path, text):
    path = Checkpoints(tmp_path).save(1, _content(1))
    (path / "hashes.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"hashes\.json: missing or unreadable"):
        verify(path)


def test_all_damaged_is_told_one_by_one(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (4, 8):
        (checkpoints.save(step, _content(step)) / "state.json").unlink()
    path, damaged = checkpoints.newest()
    assert path is None
    assert ["000000008" in damaged[0], "000000004" in damaged[1]] == [True, True]


def test_reading_what_is_no_checkpoint_is_an_error_of_ours(tmp_path):
    path = Checkpoints(tmp_path).save(1, _content(1))
    (path / "weights.safetensors").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read(path)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"a": torch.zeros(2)}, "'b' is missing"),
        ({"a": torch.zeros(2), "b": torch.zeros(3), "c": torch.zeros(1)}, "'c' is not part of the model"),
        ({"a": torch.zeros(2), "b": torch.zeros(3, 1)}, r"'b' has shape \[3, 1\], expected \[3\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named(found, says):
    with pytest.raises(CheckpointError, match=f"^here: the tensor {says}"):
        check_names({"a": torch.zeros(2), "b": torch.zeros(3)}, found, "here")


# A crash at every moment of a save.


def _count_calls(monkeypatch, act):
    """Call ``act(number, name)`` before each of the calls that change the disk in a save."""
    import safetensors.torch

    count = iter(range(10**6))

    def wrap(owner, name):
        real = getattr(owner, name)

        def called(*args, **kwargs):
            act(next(count), name)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, called)

    wrap(safetensors.torch, "save_file")
    wrap(os, "fsync")
    wrap(os, "rename")
    wrap(shutil, "rmtree")


def _number_of_calls(tmp_path, monkeypatch, keep: int) -> int:
    seen = []
    with monkeypatch.context() as patch:
        checkpoints = Checkpoints(tmp_path / "count", keep=keep)
        checkpoints.save(4, _content(4))
        _count_calls(patch, lambda number, name: seen.append(name))
        checkpoints.save(8, _content(8))
    assert set(seen) == {"save_file", "fsync", "rename"} | ({"rmtree"} if keep == 1 else set())
    return len(seen)


@pytest.mark.parametrize("keep", [1, 2])
def test_a_crash_before_any_call_leaves_a_whole_checkpoint_and_the_next_save_works(
    tmp_path, monkeypatch, keep
):
    for at in range(_number_of_calls(tmp_path, monkeypatch, keep)):
        directory = tmp_path / f"{keep}-{at}"
        checkpoints = Checkpoints(directory, keep=keep)
        checkpoints.save(4, _content(4))
        child = os.fork()
        if not child:
            with monkeypatch.context() as patch:
                _count_calls(patch, lambda number, name, at=at: os._exit(9) if number == at else None)
                checkpoints.save(8, _content(8))
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, at
        path, damaged = checkpoints.newest()
        assert damaged == []
        assert path is not None
        assert _equal(path, 4 if path.name.endswith("4") else 8)
        checkpoints.save(12, _content(12))
        assert checkpoints.newest() == (checkpoints.path(12), [])
        assert not [name for name in _names(directory) if name.startswith(".")], "what the crash left is gone"
        assert len(checkpoints.steps()) <= keep


def test_a_full_disk_at_any_call_leaves_the_old_one_and_nothing_temporary(tmp_path, monkeypatch):
    def refuse(at):
        def act(number, name):
            if number == at and name == "save_file":
                raise SafetensorError("No space left on device (os error 28)")
            if number == at and name != "rmtree":
                raise OSError(errno.ENOSPC, "No space left on device")

        return act

    refused = 0
    for at in range(_number_of_calls(tmp_path, monkeypatch, 1)):
        checkpoints = Checkpoints(tmp_path / f"full-{at}", keep=1)
        checkpoints.save(4, _content(4))
        with monkeypatch.context() as patch:
            _count_calls(patch, refuse(at))
            try:
                checkpoints.save(8, _content(8))
            except OSError as error:
                refused += "No space left on device" in str(error)
        path, damaged = checkpoints.newest()
        assert path is not None
        assert damaged == []
        assert not [name for name in _names(checkpoints.directory) if name.startswith(".")]
    assert refused >= 8


@pytest.fixture
def small_disk(tmp_path):
    """A real disk of 256 KiB, where mounting one is allowed."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(place)], capture_output=True, check=False
    )
    if made.returncode:
        pytest.skip("mounting is not allowed here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_real_full_disk_leaves_the_old_checkpoint_intact(small_disk):
    checkpoints = Checkpoints(small_disk)
    checkpoints.save(4, _content(4))
    large = Checkpoint(
        {"weights": {"a": torch.zeros(30_000)}, "optimizer": {"a": torch.zeros(60_000)}}, {"step": 8}
    )
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(8, large)
    assert _names(small_disk) == ["step-000000004"]
    assert checkpoints.newest() == (checkpoints.path(4), [])


def test_the_same_tensor_under_two_names_is_refused_rather_than_split(tmp_path):
    """safetensors would write it twice; a model names each parameter once."""
    shared = torch.zeros(3)
    with pytest.raises(RuntimeError, match="share memory"):
        Checkpoints(tmp_path).save(1, Checkpoint({"weights": {"a": shared, "b": shared}}, {}))


def test_hashes_are_those_of_the_files(tmp_path):
    path = Checkpoints(tmp_path).save(1, _content(1))
    hashes = json.loads((path / "hashes.json").read_text())
    assert hashes.keys() == set(FILES) - {"hashes.json"}
    for name, expected in hashes.items():
        sums = subprocess.run(["sha256sum", path / name], capture_output=True, check=True, text=True).stdout
        assert sums.split()[0] == expected
    assert checkpoint.GROUPS == ("weights", "average", "optimizer")
