"""What a run writes down: a JSON line per event, and scalars for TensorBoard where it is installed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console


class JsonLines:
    """An append-only file of JSON objects whose length can be recorded and restored.

    What a full disk refuses is kept in memory and written once there is room.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.stream = path.open("ab", buffering=0)
        self.pending = b""

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a line. OSError if it, and perhaps some before it, cannot reach the disk yet."""
        self.pending += json.dumps(record, ensure_ascii=False).encode() + b"\n"
        self._flush()

    def _flush(self) -> None:
        while self.pending:
            self.pending = self.pending[self.stream.write(self.pending) :]

    def length(self) -> int:
        """Bytes on disk; what came before is safe. OSError if something is not."""
        self._flush()
        os.fsync(self.stream.fileno())
        return self.path.stat().st_size

    def cut(self, length: int) -> None:
        """Forget what was written after ``length`` bytes."""
        self.pending = b""
        self.stream.truncate(min(length, self.path.stat().st_size))

    def close(self) -> None:
        self.stream.close()


class Board:
    """Scalars for TensorBoard (extra ``logs``) from ``step`` on; does nothing where that is not installed.

    A full disk ends it: OSError once, then nothing more.
    """

    def __init__(self, directory: Path, step: int) -> None:
        self.writer = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(directory), purge_step=step)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        if self.writer is None:
            return
        try:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)
        except OSError:
            self.writer = None
            raise

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()


class Journal:
    """The log, the quarantine and the scalars of one run. A full disk is told, and does not stop the run."""

    def __init__(self, run: Path, console: Console) -> None:
        self.run, self.console = run, console
        self.log, self.quarantine = JsonLines(run / "log.jsonl"), JsonLines(run / "quarantine.jsonl")
        self.board: Board | None = None
        self.refused = False

    def begin(self, log: int, quarantine: int, step: int) -> None:
        """Go on from the lengths that were recorded; the scalars from ``step``."""
        self.log.cut(log)
        self.quarantine.cut(quarantine)
        self.board = Board(self.run / "tensorboard", step)

    def event(self, record: Mapping[str, Any]) -> None:
        """A line for the log."""
        self._attempt(lambda: self.log.write(record))

    def broken(self, record: Mapping[str, Any]) -> None:
        """A line for the quarantine."""
        self._attempt(lambda: self.quarantine.write(record))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        board = self.board
        if board is not None:
            self._attempt(lambda: board.scalars(values, step))

    def _attempt(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            if not self.refused:
                self.console.print(
                    f"{self.run}: {error}; the log waits for room, training goes on", style="yellow"
                )
            self.refused = True
        else:
            self.refused = False

    def close(self) -> None:
        self.log.close()
        self.quarantine.close()
        if self.board is not None:
            self.board.close()
