"""What a source of Samples is: random access, and a list of what was broken when it was indexed."""

from __future__ import annotations

import abc
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from ...core import ConfigError, DataError, Sample

#: A sample that names no split belongs to this one.
DEFAULT_SPLIT = "train"


class Source(abc.ABC):
    """Samples by index. The values of their segments are not decoded: paths, bytes or inline values.

    A source can be pickled and used by several processes at once.
    """

    #: What the user calls it, for messages.
    name: str

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of usable samples."""

    @abc.abstractmethod
    def __getitem__(self, index: int) -> Sample:
        """The sample at ``index``. Raises DataError if it can no longer be read."""

    @property
    @abc.abstractmethod
    def problems(self) -> list[DataError]:
        """What was found broken while indexing; none of it is counted in ``len``."""

    def __iter__(self) -> Iterator[Sample]:
        return (self[index] for index in range(len(self)))


class IndexedSource(Source):
    """A source that looks at every row once and then keeps only the numbers of its usable rows."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._usable = array("q")
        self._problems: list[DataError] = []

    @abc.abstractmethod
    def _sample(self, row: int) -> Sample:
        """Read a row again. Raises DataError."""

    def _index(self, rows: Iterable[tuple[int, Sample | DataError]], split: str | None) -> None:
        """Keep the rows of ``split`` (None: of all). Raises ConfigError if only other splits have samples."""
        first: dict[str, tuple[str, int | None]] = {}
        found: Counter[str] = Counter()
        for row, outcome in rows:
            if isinstance(outcome, DataError):
                self._problems.append(outcome)
                continue
            if outcome.key in first:
                self._problems.append(_repeated(outcome, *first[outcome.key]))
                continue
            first[outcome.key] = outcome.file, outcome.line
            own = outcome.split or DEFAULT_SPLIT
            found[own] += 1
            if split is None or own == split:
                self._usable.append(row)
        if found and not self._usable:
            counts = ", ".join(f"{name}: {count}" for name, count in found.most_common(8))
            raise ConfigError(f"{self.name} has no sample of the split {split!r}; found {counts}")

    def __len__(self) -> int:
        return len(self._usable)

    def __getitem__(self, index: int) -> Sample:
        return self._sample(self._usable[index])

    @property
    def problems(self) -> list[DataError]:
        return self._problems


def open_manifest(path: Path, *, line: int | None = None) -> BinaryIO:
    """The file opened for reading bytes. Raises DataError, with the line for which it was opened."""
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=str(path), line=line) from None


def _repeated(sample: Sample, file: str, line: int | None) -> DataError:
    place = f"on line {line}" if file == sample.file and line else f"in {file}" + (f":{line}" if line else "")
    return DataError(
        f"this key is already used {place}", key=sample.key, file=sample.file, line=sample.line, field="key"
    )
