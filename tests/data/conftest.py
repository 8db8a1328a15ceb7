"""Tiny modalities and a manifest writer, so that sources are tested without any codec."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sensorium.core import DataError, Modality


class _Fake(Modality):
    """A file is good if it begins with the modality's name; its size is the number of its bytes."""

    def read(self, source: Any) -> bytes:
        if isinstance(source, Path):
            try:
                source = source.read_bytes()
            except OSError as error:
                raise DataError(f"{error.strerror}: {source}") from None
        return source.encode() if isinstance(source, str) else source

    def check(self, raw: bytes) -> None:
        if not self.inline and not raw.startswith(self.name.encode()):
            raise DataError(f"not an {self.name}")

    def prepare(self, raw: bytes, generator: torch.Generator | None = None) -> torch.Tensor:
        return torch.tensor(list(raw))

    def blank(self) -> torch.Tensor:
        return torch.zeros(1, dtype=torch.long)

    def size(self, raw: bytes) -> tuple[float, str]:
        return float(len(raw)), "bytes"

    def show(self, raw: bytes) -> str:
        return ""


class FakeImage(_Fake):
    name = "image"
    extensions = (".png", ".jpg")


class FakeDepth(_Fake):
    name = "depth"
    extensions = (".depth.png",)


class FakeAudio(_Fake):
    name = "audio"
    extensions = (".wav",)


class FakeSeries(_Fake):
    name = "series"
    extensions = (".csv",)


class FakeText(_Fake):
    name = "text"
    extensions = (".txt",)
    inline = True


@pytest.fixture
def fakes() -> dict[str, Modality]:
    every = (FakeText(), FakeImage(), FakeAudio(), FakeSeries(), FakeDepth())
    return {modality.name: modality for modality in every}


@pytest.fixture
def manifest(tmp_path: Path) -> Callable[..., Path]:
    """Writes records, or lines as they are, to a JSON Lines file."""

    def write(*lines: dict[str, Any] | str, name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
        return path

    return write
