from __future__ import annotations

import argparse
import io
import os
import pickle
import pickletools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sensorium.core.errors import CheckpointError
from sensorium.weights.legacy import open_legacy

STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, dtype=torch.int64), "c": torch.zeros(0, 2)}
both = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before 1.6"])


def saved(directory: Path, content: Any, *, zipped: bool = True) -> Path:
    torch.save(content, directory / "w.bin", _use_new_zipfile_serialization=zipped)
    return directory / "w.bin"


def check(file: Path) -> None:
    found = open_legacy(file)
    assert found.keys() == STATE.keys()
    for name, expected in STATE.items():
        assert (found[name].shape, found[name].dtype) == (tuple(expected.shape), expected.dtype)
        assert torch.equal(found[name].read(), expected)
        assert not found[name].read().requires_grad


@both
def test_state_dicts(tmp_path, zipped: bool) -> None:
    check(saved(tmp_path, STATE, zipped=zipped))
    check(saved(tmp_path, {"epoch": 3, "state_dict": STATE, "optimizer": {"lr": 1.0}}, zipped=zipped))
    check(saved(tmp_path, {f"module.{name}": value for name, value in STATE.items()}, zipped=zipped))
    wrapped = nn.DataParallel(nn.Linear(2, 2)).state_dict()
    assert set(open_legacy(saved(tmp_path, wrapped, zipped=zipped))) == {"weight", "bias"}


def test_parameters_and_views(tmp_path) -> None:
    whole = torch.arange(10.0)
    found = open_legacy(saved(tmp_path, {"p": nn.Parameter(whole), "v": whole[2:4], "t": whole.view(2, 5).T}))
    assert type(found["p"].read()) is torch.Tensor
    assert torch.equal(found["v"].read(), whole[2:4])
    assert torch.equal(found["t"].read(), whole.view(2, 5).T)


def test_a_name_alone_is_no_prefix(tmp_path) -> None:
    assert set(open_legacy(saved(tmp_path, {"module.a": torch.ones(1), "b": torch.ones(1)}))) == {
        "module.a",
        "b",
    }


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil-was-here",)


@both
@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({"a": Evil()}, "mkdir"),
        (nn.Linear(2, 2), "torch.nn.modules.linear.Linear"),
        ({"args": argparse.Namespace(), "state_dict": STATE}, "argparse.Namespace"),
        ({"a": np.ones(3)}, "numpy"),
    ],
    ids=["hostile", "module", "namespace", "array"],
)
def test_code_is_not_run(tmp_path, monkeypatch, content: Any, named: str, zipped: bool) -> None:
    monkeypatch.chdir(tmp_path)
    file = saved(tmp_path, content, zipped=zipped)
    with pytest.raises(
        CheckpointError, match=rf"w\.bin: not read, since that would run code: .*{named}.*safetensors"
    ):
        open_legacy(file)
    assert not (tmp_path / "evil-was-here").exists()


def test_a_plain_pickle(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for protocol in (0, 2, 4):
        (tmp_path / "w.pth").write_bytes(pickle.dumps({"a": Evil()}, protocol=protocol))
        with pytest.raises(CheckpointError, match=r"w\.pth: .*safetensors"):
            open_legacy(tmp_path / "w.pth")
    assert not (tmp_path / "evil-was-here").exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_programs(tmp_path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=r"w\.pt: a TorchScript archive, which is a program"):
        open_legacy(tmp_path / "w.pt")


@both
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.ones(1)], "expected a dict of names and tensors, found list"),
        ({3: torch.ones(1)}, "found the key 3"),
        ({"a": 3}, "'a': expected a tensor, found int"),
        ({"a": {"b": torch.ones(1)}}, "'a': expected a tensor, found dict"),
        ({"state_dict": {"a": None}}, "'a': expected a tensor, found NoneType"),
        ({"a": torch.eye(3).to_sparse()}, "'a': expected a dense tensor of numbers"),
        ({"a": torch.ones(2, dtype=torch.complex64)}, "'a': expected a dense tensor of numbers"),
        ({"a": torch.ones(1).expand(10**12)}, "'a': claims 4,000,000,000,000 bytes in a storage of 4"),
        ({"a": torch.ones(2, device="meta")}, "'a': expected a tensor with its values"),
    ],
)
def test_only_dense_numbers(tmp_path, content: Any, reason: str, zipped: bool) -> None:
    file = saved(tmp_path, content, zipped=zipped)
    with pytest.raises(CheckpointError) as error:
        open_legacy(file)
    assert str(error.value).startswith(str(file))
    assert reason in str(error.value)


@both
def test_cut_anywhere(tmp_path, zipped: bool) -> None:
    content = saved(tmp_path, {"a": torch.ones(100)}, zipped=zipped).read_bytes()
    for end in range(0, len(content) - 1, 37):
        (tmp_path / "w.bin").write_bytes(content[:end])
        with pytest.raises(CheckpointError, match=r"w\.bin: "):
            open_legacy(tmp_path / "w.bin")


@both
def test_flipped_bits(tmp_path, zipped: bool) -> None:
    """Damage to what describes the tensors is found, or changes what is read: nothing else is ever raised."""
    content = saved(tmp_path, {"a": torch.ones(2)}, zipped=zipped).read_bytes()
    for place in range(0, len(content), 3):
        changed = bytearray(content)
        changed[place] ^= 0x11
        (tmp_path / "w.bin").write_bytes(changed)
        try:
            for stored in open_legacy(tmp_path / "w.bin").values():
                assert stored.read().numel() * stored.dtype.itemsize <= len(content)
        except CheckpointError:
            pass


def test_a_compressed_archive(tmp_path) -> None:
    file = saved(tmp_path, STATE)
    with zipfile.ZipFile(file) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records.items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match=r"w\.bin: the record '.*' is compressed"):
        open_legacy(file)


def _pickles(file: Path) -> list[bytes]:
    """The pickles that a file of torch before 1.6 begins with, and then the rest."""
    content = file.read_bytes()
    stream, parts, start = io.BytesIO(content), [], 0
    for _ in range(5):
        list(pickletools.genops(stream))
        parts.append(content[start : stream.tell()])
        start = stream.tell()
    return [*parts, content[start:]]


def test_values_that_the_file_lacks_are_not_our_memory(tmp_path) -> None:
    """A file may name a tensor and leave its storage out of the list of those to be filled."""
    file = saved(tmp_path, {"a": torch.ones(1000)}, zipped=False)
    parts = _pickles(file)
    file.write_bytes(b"".join(parts[:4]) + pickle.dumps([], protocol=2) + bytes(4096))
    used = [torch.full((1000,), 7.0) for _ in range(50)]
    del used
    assert open_legacy(file)["a"].read().count_nonzero() == 0


def test_a_claim_beyond_the_file_takes_no_memory(tmp_path) -> None:
    file = saved(tmp_path, {"a": torch.ones(1000)}, zipped=False)
    thousand, billion = b"M\xe8\x03", b"J\x00\xca\x9a\x3b"
    content = file.read_bytes()
    assert thousand in content
    file.write_bytes(content.replace(thousand, billion))
    with pytest.raises(CheckpointError, match="claims more bytes of tensors than the file has"):
        open_legacy(file)
