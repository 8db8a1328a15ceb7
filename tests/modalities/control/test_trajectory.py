"""Episodes are read exactly, or not at all."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
import pytest
import torch

from sensorium.core import DataError
from sensorium.modalities.control.trajectory import check_trajectory, read_trajectory

LIMIT = 10_000


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def loaded(source):
    found = read_trajectory(source, LIMIT)
    check_trajectory(found)
    return found


def test_all_forms_are_one(tmp_path):
    speed, keys, done = [[0.5, -1.0], [2.0, 3.0]], [4, 5], [[0.25], [-1.0]]
    plain = {"observations": {"speed": speed, "keys": keys}, "actions": done}
    file = tmp_path / "e.json"
    file.write_text(json.dumps(plain))
    arrays = npz(speed=np.array(speed), keys=np.array(keys, np.uint8), actions=np.array(done, np.float16))
    tensors = {
        "observations": {"speed": torch.tensor(speed), "keys": [np.int64(4), np.int64(5)]},
        "actions": [np.array([0.25]), np.array([-1.0])],
    }
    for source in (plain, file, str(file), file.read_bytes(), arrays, tensors, read_trajectory(plain, 1)):
        found = loaded(source)
        assert (found.steps, found.acted, found.text) == (2, 2, None)
        assert found.actions.tolist() == done
        assert found.observations["speed"].tolist() == speed
        assert found.observations["keys"].tolist() == [[4], [5]]
        assert {n: v.dtype.str for n, v in found.observations.items()} == {"speed": "<f4", "keys": "<i8"}


def test_one_observation_needs_no_name_and_more_axes_are_flattened():
    found = loaded({"observations": np.arange(12).reshape(2, 3, 2), "actions": [1, 0]})
    assert found.observations["observation"].tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]


def test_texts_and_open_episodes():
    assert loaded({"text": "go"}).steps == 0
    assert loaded({"observations": [1], "actions": []}).acted == 0
    assert loaded({"observations": [1, 2], "actions": [3], "text": "go"}).acted == 1


WRONG = {
    "expected an object with observations, actions, text, found list": [1, 2],
    "action: unknown field (did you mean 'actions'?)": {"observations": [1], "action": [1]},
    "the episode is empty": {},
    "observations: expected observations beside the actions": {"actions": [1]},
    "text: expected text that is not blank": {"text": " "},
    "observations.observation: expected numbers, all whole or all with a point, found both": {
        "observations": [1, 0.5], "actions": [1, 1]},
    "observations.observation: expected numbers, all whole or all with a point, found something else": {
        "observations": [True], "actions": [1]},
    "observations.observation: expected numbers, all whole or all with a point, found nothing": {
        "observations": [], "actions": [1]},
    "the steps do not have equally many numbers": {"observations": [[1], [1, 2]], "actions": [1, 1]},
    "observations.b: expected 2 steps as in 'a', found 1": {
        "observations": {"a": [1, 2], "b": [1]}, "actions": [1, 1]},
    "actions: expected an action for each of 3 steps, found 1": {"observations": [1, 2, 3], "actions": [1]},
    "actions: expected an action for each of 1 steps, found 2": {"observations": [1], "actions": [1, 1]},
    "observations.observation[1]: expected whole numbers from 0 to 1023 (others need a point), found -1": {
        "observations": [0, -1], "actions": [1, 1]},
    "actions[0]: expected whole numbers from 0 to 1023 (others need a point), found 1024": {
        "observations": [0], "actions": [1024]},
    "actions[1]: expected numbers from -1 to 1, found 1.5": {"observations": [0, 0], "actions": [1.0, 1.5]},
    "observations.observation[0]: expected finite numbers, found nan": {
        "observations": [float("nan")], "actions": [1]},
    "observations.observation[0]: expected finite numbers, found inf": {"observations": [1e300], "actions": [1]},
    "expected numbers [steps, ...], found <U1": {"observations": np.array(["a"]), "actions": [1]},
    "expected numbers [steps, ...], found float64 of the shape []": {
        "observations": np.array(1.0), "actions": [1]},
    "expected at least one number a step": {"observations": np.zeros((2, 0)), "actions": [1, 1]},
}  # fmt: skip


@pytest.mark.parametrize(("message", "source"), WRONG.items())
def test_what_is_wrong_is_named(message: str, source):
    with pytest.raises(DataError) as error:
        loaded(source)
    assert message in f"{error.value.field}: {error.value.reason}"


def bomb() -> bytes:
    return npz(actions=np.zeros(100_000, np.float32))


BROKEN = {
    "not strict JSON: NaN is no number": b'{"text": NaN}',
    "a field is given twice": b'{"text": "a", "text": "b"}',
    "expected an episode as JSON or NPZ: found a file that begins with b'\\xff\\xd8": b"\xff\xd8\xff\xe0 1234567890",
    "not strict JSON": b"[" * 5_000,
    "the file is empty": b"",
    "the file has 10,001 bytes, the limit is 10,000": b" " * 10_001,
    "the file unpacks to 400,128 bytes, the limit is 10,000": bomb(),
    "not an NPZ file that can be read": bomb()[:200],
    "header of plain numbers": npz(actions=np.array([{}], dtype=object)),
}


@pytest.mark.parametrize(("message", "content"), BROKEN.items())
def test_broken_files(message: str, content: bytes):
    with pytest.raises(DataError) as error:
        loaded(content)
    assert message in str(error.value)


def test_an_archive_of_other_things():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DataError, match="NPY header"):
        loaded(buffer.getvalue())
