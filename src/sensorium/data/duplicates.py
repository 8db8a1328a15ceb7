"""The same content under different keys, within a split and across splits."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import DataError

_SHOWN = 5


def content_hash(value: Any) -> bytes:
    """A digest of what a segment holds; of the file for a ``Path``. Raises DataError if it cannot be read."""
    if isinstance(value, Path):
        try:
            with value.open("rb") as file:
                return hashlib.file_digest(file, _digest).digest()
        except OSError as error:
            raise DataError(f"{error.strerror}: {value}") from None
    content = value if isinstance(value, bytes) else json.dumps(value, default=repr).encode()
    return _digest(content).digest()


@dataclass
class Repeats:
    """How often something came back, and the first few pairs: (key, earlier key)."""

    count: int = 0
    pairs: list[tuple[str, str]] = field(default_factory=list)

    def add(self, key: str, earlier: str) -> None:
        self.count += 1
        if len(self.pairs) < _SHOWN:
            self.pairs.append((key, earlier))


class Duplicates:
    """Collects what samples hold: by modality, what came back, and what is in more than one split."""

    def __init__(self) -> None:
        self.repeats: dict[str, Repeats] = {}
        self.leaks: dict[str, Repeats] = {}
        self._first: dict[tuple[str, bytes], dict[str, str]] = {}  # split -> the first key there

    def add(self, kind: str, digest: bytes, *, key: str, split: str) -> None:
        """Note that the sample ``key`` of ``split`` holds this content."""
        first = self._first.setdefault((kind, digest), {})
        self._leak(kind, first, key=key, split=split)
        if first and key not in first.values():
            self.repeats.setdefault(kind, Repeats()).add(key, next(iter(first.values())))
        first.setdefault(split, key)

    def add_group(self, group: str, *, key: str, split: str) -> None:
        """Note the group of a sample, which should be in one split only."""
        first = self._first.setdefault(("group", group.encode()), {})
        self._leak("group", first, key=key, split=split)
        first.setdefault(split, key)

    def _leak(self, kind: str, first: dict[str, str], *, key: str, split: str) -> None:
        if first and split not in first:
            other, earlier = next(iter(first.items()))
            self.leaks.setdefault(kind, Repeats()).add(f"{key} ({split})", f"{earlier} ({other})")


def _digest(content: bytes = b"") -> Any:
    return hashlib.blake2b(content, digest_size=16)
