"""What a run writes down survives a full disk, a cut and several runs."""

from __future__ import annotations

import errno
import io
import json
from contextlib import closing

import pytest
from rich.console import Console
from training.kit import lines

from sensorium.training import logs
from sensorium.training.logs import Journal, JsonLines


class _Full:
    """A stream on a disk that has room for so many bytes more."""

    def __init__(self, stream, room: int) -> None:
        self.stream, self.room = stream, room

    def write(self, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.stream.write(data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self.stream, name)


def test_lines_are_there_at_once_and_appended(tmp_path):
    for name in ("é", "b"):
        log = JsonLines(tmp_path / "log.jsonl")
        log.write({"name": name})
        assert lines(log.path)[-1] == {"name": name}
        log.close()
    assert lines(tmp_path / "log.jsonl") == [{"name": "é"}, {"name": "b"}]


@pytest.fixture
def log(tmp_path):
    with closing(JsonLines(tmp_path / "log.jsonl")) as opened:
        yield opened


def test_what_comes_after_a_recorded_length_can_be_forgotten(log):
    log.write({"step": 1})
    length = log.length()
    log.write({"step": 2})
    log.cut(length)
    log.write({"step": 3})
    assert lines(log.path) == [{"step": 1}, {"step": 3}]
    log.cut(10**9)
    assert lines(log.path) == [{"step": 1}, {"step": 3}], "a length beyond the end cuts nothing"
    assert log.length() == log.path.stat().st_size


def test_a_line_that_a_killed_process_left_half_written_is_cut(log):
    log.write({"step": 1})
    length = log.length()
    with log.path.open("a") as file:
        file.write('{"st')
    with closing(JsonLines(log.path)) as again:
        again.cut(length)
        again.write({"step": 2})
    assert lines(log.path) == [{"step": 1}, {"step": 2}]


def test_a_full_disk_is_told_once_and_nothing_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(logs, "find_spec", lambda name: None)
    console = Console(record=True, file=io.StringIO(), width=400)
    journal = Journal(tmp_path, console)
    journal.begin(0, 0, 1)
    stream = journal.log.stream
    for room in (0, 5):
        journal.log.stream = _Full(stream, room)
        for step in range(3):
            journal.event({"room": room, "step": step})
        journal.log.stream = stream
        journal.event({"room": room, "step": "done"})
    assert lines(tmp_path / "log.jsonl") == [
        {"room": room, "step": step} for room in (0, 5) for step in (0, 1, 2, "done")
    ]
    assert console.export_text().count("No space left on device") == 2
    journal.close()


def test_scalars_go_on_after_a_full_disk_without_tensorboard(tmp_path):
    class Writer:
        def add_scalar(self, *_):
            raise OSError(errno.ENOSPC, "No space left on device")

    console = Console(record=True, file=io.StringIO(), width=400)
    journal = Journal(tmp_path, console)
    journal.begin(0, 0, 1)
    journal.board.close()
    journal.board.writer = Writer()
    for step in range(3):
        journal.scalars({"loss": 1.0}, step)
    assert console.export_text().count("No space left") == 1
    journal.close()


def test_records_are_json_whatever_their_text(log):
    log.write({"key": 'a"\n\u2028b', "keys": ["x", "ü"]})
    (line,) = log.path.read_bytes().split(b"\n")[:-1]
    assert json.loads(line) == {"key": 'a"\n\u2028b', "keys": ["x", "ü"]}
