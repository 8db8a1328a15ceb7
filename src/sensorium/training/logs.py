"""What a run writes down: a JSON line per event, TensorBoard where it is installed, and a bar for the person."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class JsonLines:
    """An append-only file of JSON objects whose length can be recorded and restored."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.stream = path.open("a", encoding="utf-8")

    def write(self, record: Mapping[str, Any]) -> None:
        self.stream.write(json.dumps(record, ensure_ascii=False) + "\n")
        self.stream.flush()

    def length(self) -> int:
        """Bytes on disk; what came before is safe."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        return self.stream.tell()

    def cut(self, length: int) -> None:
        """Forget what was written after ``length`` bytes."""
        self.stream.truncate(min(length, self.path.stat().st_size))
        self.stream.seek(0, os.SEEK_END)

    def close(self) -> None:
        self.stream.close()


class Board:
    """Scalars for TensorBoard (extra ``logs``); does nothing where that is not installed."""

    def __init__(self, directory: Path) -> None:
        self.writer = None
        if find_spec("tensorboard") is not None:
            from torch.utils.tensorboard import SummaryWriter

            self.writer = SummaryWriter(str(directory))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        if self.writer is not None:
            for name, value in values.items():
                self.writer.add_scalar(name, value, step)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
