"""A manifest in JSON Lines: one record per line."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...core import DataError, Modality, Sample
from .record import parse_record
from .source import IndexedSource, open_manifest
from .strict_json import parse_object


class JsonlSource(IndexedSource):
    """One JSON object per line; blank lines are skipped. Paths are relative to ``root``, or to the manifest.

    Kept in memory: where each line begins. A line is read again when its sample is asked for.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        modalities: Mapping[str, Modality],
        split: str | None = None,
        root: Path | str | None = None,
    ) -> None:
        super().__init__(str(path))
        self._path = Path(path)
        self._root = Path(os.path.realpath(root or self._path.parent))
        self._modalities = modalities
        self._starts = array("q")
        self._index(self._scan(), split)

    def _scan(self) -> Iterator[tuple[int, Sample | DataError]]:
        start = 0
        with open_manifest(self._path) as file:
            for row, line in enumerate(file):
                self._starts.append(start)
                start += len(line)
                if not line.strip():
                    continue
                try:
                    yield row, self._parse(line, row)
                except DataError as error:
                    yield row, error

    def _parse(self, line: bytes, row: int) -> Sample:
        if row == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")  # the byte order mark of some editors
        try:
            record = parse_object(line)
        except DataError as error:
            raise error.at(file=self.name, line=row + 1) from None
        return parse_record(
            record, modalities=self._modalities, root=self._root, file=self.name, line=row + 1
        )

    def _sample(self, row: int) -> Sample:
        with open_manifest(self._path, line=row + 1) as file:
            file.seek(self._starts[row])
            return self._parse(file.readline(), row)
