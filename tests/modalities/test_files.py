from __future__ import annotations

import os

import pytest

from sensorium.core import DataError
from sensorium.modalities.files import open_source, read_bytes


def test_reads_paths_and_bytes(tmp_path):
    file = tmp_path / "a.bin"
    file.write_bytes(b"abc")
    for source in (file, str(file), b"abc", bytearray(b"abc"), memoryview(b"abc")):
        assert read_bytes(source, 3) == b"abc"


def test_says_why_a_file_cannot_be_opened(tmp_path):
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "large").write_bytes(b"x" * 11)
    (tmp_path / "file").write_bytes(b"x")
    os.mkfifo(tmp_path / "pipe")
    cases = {
        tmp_path / "none": "file not found",
        tmp_path / "file" / "none": "file not found",
        tmp_path: "found a directory",
        tmp_path / "empty": "the file is empty",
        tmp_path / "large": "11 bytes, the limit is 10",
        tmp_path / "pipe": "found a device or pipe",
        "a\0b": "not a path",
        "x" * 5000: "cannot be opened",
        b"": "the file is empty",
        b"x" * 11: "11 bytes",
        7: "expected a path or bytes, found int",
    }
    for source, reason in cases.items():
        with pytest.raises(DataError, match=reason):
            open_source(source, 10)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path):
    file = tmp_path / "secret"
    file.write_bytes(b"x")
    file.chmod(0)
    with pytest.raises(DataError, match="no permission"):
        open_source(file, 10)


def test_no_permission_is_named(tmp_path, monkeypatch):
    file = tmp_path / "secret"
    file.write_bytes(b"x")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match="no permission to read"):
        open_source(file, 10)
