from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from sensorium.core.errors import CheckpointError
from sensorium.weights.safetensors_file import (
    DTYPES,
    LONGEST_HEADER,
    open_safetensors,
    read_header,
    write_safetensors,
)

TENSORS = {
    "a.weight": torch.arange(6.0).reshape(2, 3),
    "b": torch.tensor([1, 2, 3], dtype=torch.uint8),
    "c.half": torch.ones(5, dtype=torch.bfloat16),
    "empty": torch.zeros(0, 7),
    "scalar": torch.tensor(3.0, dtype=torch.float64),
}


def raw(file: Path, header: object, data: bytes = b"", *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return file


def one(**changes: object) -> dict:
    return {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


def test_reads_what_others_write(tmp_path) -> None:
    save_file(TENSORS, tmp_path / "a.safetensors", metadata={"format": "pt"})
    found = open_safetensors(tmp_path / "a.safetensors")
    assert found.keys() == TENSORS.keys()
    for name, expected in TENSORS.items():
        assert (found[name].shape, found[name].dtype) == (tuple(expected.shape), expected.dtype)
        assert torch.equal(found[name].read(), expected)


def test_reading_copies_nothing(tmp_path) -> None:
    save_file({"a": torch.ones(1000), "b": torch.zeros(1000)}, tmp_path / "a.safetensors")
    stored = open_safetensors(tmp_path / "a.safetensors")["a"]
    assert stored.read().data_ptr() == stored.read().data_ptr()
    stored.read().fill_(7)  # of this process alone
    assert load_file(tmp_path / "a.safetensors")["a"].sum() == 1000


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=str)
def test_others_read_what_is_written(tmp_path, dtype: torch.dtype) -> None:
    tensors = {"x": torch.randint(0, 2, (3, 4)).to(dtype), "y": torch.zeros((), dtype=dtype)}
    write_safetensors(tmp_path / "a.safetensors", tensors, metadata={"format": "pt"})
    found = load_file(tmp_path / "a.safetensors")
    assert found["x"].dtype == dtype
    for name, expected in tensors.items():
        assert (
            torch.equal(found[name].view(torch.uint8), expected.view(torch.uint8)) if expected.ndim else True
        )
    assert read_header(tmp_path / "a.safetensors")["x"].shape == (3, 4)


def test_written_whole_and_aligned(tmp_path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    tensors = TENSORS | {"whole": whole, "tied": whole, "part": whole[1], "turned": whole.T}
    tensors["parameter"] = torch.nn.Parameter(whole)
    write_safetensors(tmp_path / "a.safetensors", tensors, metadata={"é": "ü"})
    found = load_file(tmp_path / "a.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    for name, entry in read_header(tmp_path / "a.safetensors").items():
        assert entry.start % entry.dtype.itemsize == 0, name
        assert found[name].data_ptr() % entry.dtype.itemsize == 0, name


@pytest.mark.parametrize("tensor", [torch.eye(2).to_sparse(), torch.ones(2, dtype=torch.complex64)])
def test_what_cannot_be_written(tmp_path, tensor: torch.Tensor) -> None:
    with pytest.raises(CheckpointError, match=r"the tensor 'x' .* cannot be stored as safetensors"):
        write_safetensors(tmp_path / "a.safetensors", {"x": tensor}, metadata={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        (one(), 8, None),
        ({}, 0, None),
        ({"__metadata__": {"a": "b"}} | one(shape=[0], data_offsets=[0, 0]), 0, None),
        (one(), 7, "truncated: expected 8 bytes after the header, found 7"),
        (one(), 9, "followed by bytes of no tensor: expected 8 bytes after the header, found 9"),
        (one(), 0, "truncated"),
        (one(shape=[3]), 8, "'x': F32 of shape [3] is 12 bytes, but data_offsets gives it 8"),
        (one(shape=[2, 0]), 8, "is 0 bytes, but data_offsets gives it 8"),
        (one(dtype="F64"), 8, "F64 of shape [2] is 16 bytes"),
        (one(dtype="F31"), 8, "'x': dtype: expected one of F64, F32"),
        (one(dtype=None), 8, "'x': dtype: expected"),
        (one(dtype=["F32"]), 8, "'x': dtype: expected"),
        (one(shape=[-2]), 8, "'x': shape: expected a list of integers from 0, found [-2]"),
        (one(shape=[2.0]), 8, "'x': shape: expected"),
        (one(shape=[True, 2]), 8, "'x': shape: expected"),
        (one(shape="2"), 8, "'x': shape: expected"),
        (one(shape=[10**30]), 8, "'x': shape: expected"),
        (one(shape=[2**40, 2**40]), 8, "'x': shape: too large"),
        (one(shape=[2**40, 2**40, 0], data_offsets=[0, 0]), 0, "'x': shape: too large"),
        (one(data_offsets=[8, 0]), 8, "'x': data_offsets: expected a start and an end, found [8, 0]"),
        (one(data_offsets=[0, 8, 16]), 8, "'x': data_offsets: expected"),
        (one(data_offsets=[-8, 0]), 8, "'x': data_offsets: expected a list of integers"),
        (one(data_offsets=[2**63, 2**63 + 8]), 8, "'x': data_offsets: expected"),
        (one(data_offsets=[8, 16]), 16, "'x' leaves a gap after the header: expected it to start at byte 0"),
        (one(data_offsets=[2**40, 2**40 + 8]), 8, "'x' leaves a gap"),
        (one() | {"y": one()["x"]}, 8, "'y' overlaps 'x': expected it to start at byte 8, found 0"),
        (one() | {"y": one(data_offsets=[4, 12])["x"]}, 12, "'y' overlaps 'x'"),
        (one() | {"y": one(data_offsets=[12, 20])["x"]}, 20, "'y' leaves a gap after 'x'"),
        (one() | {"y": one(shape=[0], data_offsets=[4, 4])["x"]}, 8, "'y' overlaps 'x'"),
        (one(extra=1), 8, "'x': expected an object of"),
        ({"x": {"dtype": "F32", "shape": [2]}}, 8, "'x': expected an object of"),
        ({"x": 3}, 8, "'x': expected an object of"),
        ({"__metadata__": {"a": 1}}, 0, "__metadata__: expected an object of strings"),
        ({"__metadata__": None}, 0, "__metadata__: expected an object of strings"),
        (b'{"x": 1, "x": 2}', 0, "the name 'x' occurs twice"),
        (b"[]", 0, "expected a JSON object"),
        (b"\xff\xfe", 0, "not strict JSON"),
        (b'{"a":' * 50_000, 0, "nested too deeply"),
    ],
)
def test_headers(tmp_path, header: object, data: int, reason: str | None) -> None:
    file = raw(tmp_path / "a.safetensors", header, bytes(data))
    if reason is None:
        for stored in open_safetensors(file).values():
            stored.read()
        return
    with pytest.raises(CheckpointError) as error:
        open_safetensors(file)
    assert str(error.value).startswith(f"{file}: ")
    assert reason in str(error.value)


@pytest.mark.parametrize("length", [3, 100, LONGEST_HEADER + 1, 2**63, 2**64 - 1])
def test_a_header_is_not_longer_than_its_file(tmp_path, length: int) -> None:
    file = raw(tmp_path / "a.safetensors", b"{}", length=length)
    with pytest.raises(CheckpointError, match=f"its header claims {length:,} bytes; .* and 2 are left"):
        read_header(file)


def test_a_header_beyond_the_limit_is_not_read(tmp_path) -> None:
    file = raw(tmp_path / "a.safetensors", b"{}", length=LONGEST_HEADER + 1)
    with file.open("r+b") as stream:
        stream.truncate(2 * LONGEST_HEADER)  # sparse: takes no room
    with pytest.raises(CheckpointError, match=r"at most 100,000,000 are allowed"):
        read_header(file)


def test_not_a_safetensors_file(tmp_path) -> None:
    file = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError, match="No such file"):
        read_header(file)
    with pytest.raises(CheckpointError, match="Is a directory"):
        read_header(tmp_path)
    file.write_bytes(b"")
    with pytest.raises(CheckpointError, match="expected a safetensors file, found 0 bytes"):
        read_header(file)
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    with pytest.raises(CheckpointError, match=r"a pointer of Git LFS.* git lfs pull"):
        read_header(file)
    link = tmp_path / "loop.safetensors"
    link.symlink_to(link)
    with pytest.raises(CheckpointError, match="symbolic links"):
        read_header(link)


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> bytes:
    file = tmp_path_factory.mktemp("good") / "a.safetensors"
    save_file(TENSORS, file)
    return file.read_bytes()


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_changed_header_is_refused_or_means_something_else(
    tmp_path, good: bytes, data: st.DataObject
) -> None:
    """Nothing but a CheckpointError comes of damage; what is accepted, safetensors accepts, and agrees on."""
    end = 8 + struct.unpack("<Q", good[:8])[0]
    changed = bytearray(good)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, end - 1))
        changed[place] ^= 1 << data.draw(st.integers(0, 7))
    file = tmp_path / "a.safetensors"
    file.write_bytes(changed)
    try:
        found = open_safetensors(file)
    except CheckpointError:
        return
    expected = load_file(file)
    assert found.keys() == expected.keys()
    for name, stored in found.items():
        assert stored.shape == tuple(expected[name].shape)
        assert stored.read().dtype == stored.dtype == expected[name].dtype


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_refused(tmp_path, good: bytes, cut: float) -> None:
    file = tmp_path / "a.safetensors"
    file.write_bytes(good[: int(cut * len(good))])
    with pytest.raises(CheckpointError, match=r"a\.safetensors: "):
        open_safetensors(file)
