"""A manifest as a table: CSV or TSV with a header whose columns are the fields of a record."""

from __future__ import annotations

import csv
import io
import os
from array import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ...core import DataError, Modality, Sample
from .dialogue import plural
from .record import check_fields, parse_record
from .source import IndexedSource, open_manifest
from .strict_json import parse_json

#: Columns whose cells hold JSON.
_STRUCTURED = ("labels", "attributes", "questions", "messages")


class TableSource(IndexedSource):
    """One record per row: comma-separated, or tab-separated if the name ends in ``.tsv``; UTF-8 text.

    An empty cell is an absent field. A column ``attributes.age`` or ``labels.age`` is one entry of that
    object; the cells of ``labels``, ``attributes``, ``questions``, ``messages`` and ``images`` hold JSON.
    Raises DataError for a header that is missing or has an unknown or repeated column.
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
        self._delimiter = "\t" if self._path.suffix.lower() == ".tsv" else ","
        self._starts, self._ends, self._lines = array("q"), array("q"), array("q")
        self._json = {*_STRUCTURED, *(plural(name) for name in modalities)} - set(modalities)
        self._index(self._scan(), split)

    def _scan(self) -> Iterator[tuple[int, Sample | DataError]]:
        with open_manifest(self._path) as file:
            rows = self._rows(file)
            header = next(rows, None)
            if header is None:
                raise DataError("the table is empty: expected a header of fields", file=self.name, line=1)
            if isinstance(header, DataError):
                raise header
            self._header = [name.strip() for name in header[0]]
            self._check_header()
            for row in rows:
                if isinstance(row, DataError):
                    yield -1, row
                    continue
                cells, start, end, line = row
                self._starts.append(start)
                self._ends.append(end)
                self._lines.append(line)
                number = len(self._starts) - 1
                try:
                    yield number, self._parse(cells, number)
                except DataError as error:
                    yield number, error

    def _rows(self, file: BinaryIO) -> Iterator[tuple[list[str], int, int, int] | DataError]:
        """Cells, first and last byte and first line of each row that is not blank.

        After a row that cannot be read (a quote that is never closed) reading goes on at the next line.
        """
        start, line = 0, 1
        while True:
            file.seek(start)
            lines = _Lines(file, first=line == 1)
            reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
            first, offset = line, start
            try:
                for cells in reader:
                    if cells:
                        yield cells, offset, start + lines.consumed, first
                    offset, first = start + lines.consumed, line + lines.count
                return
            except (csv.Error, UnicodeDecodeError) as error:
                yield DataError(_unreadable(error), file=self.name, line=first)
            file.seek(offset)
            start, line = offset + len(file.readline()), first + 1

    def _check_header(self) -> None:
        try:
            for position, name in enumerate(self._header):
                if not name:
                    raise DataError(f"column {position + 1} has no name")
                if name in self._header[:position]:
                    raise DataError("the column is there twice", field=name)
            check_fields([name for name in self._header if not _is_entry(name)], self._modalities)
        except DataError as error:
            raise error.at(file=self.name, line=1) from None

    def _parse(self, cells: list[str], row: int) -> Sample:
        line = self._lines[row]
        if len(cells) != len(self._header):
            reason = f"expected {len(self._header)} cells, as in the header, found {len(cells)}"
            raise DataError(reason, file=self.name, line=line)
        record: dict[str, Any] = {}
        for name, cell in zip(self._header, cells, strict=True):
            if not cell:
                continue
            owner, _, entry = name.partition(".")
            try:
                if _is_entry(name):
                    record.setdefault(owner, {})[entry] = cell
                else:
                    record[name] = parse_json(cell) if name in self._json else cell
            except DataError as error:
                raise DataError(error.reason, file=self.name, line=line, field=name) from None
        return parse_record(record, modalities=self._modalities, root=self._root, file=self.name, line=line)

    def _sample(self, row: int) -> Sample:
        start, end = self._starts[row], self._ends[row]
        with open_manifest(self._path, line=self._lines[row]) as file:
            file.seek(start)
            content = file.read(end - start)
        try:
            text = io.StringIO(content.decode("utf-8"), newline="\n")
            cells = next(csv.reader(text, delimiter=self._delimiter, strict=True))
        except (csv.Error, UnicodeDecodeError, StopIteration):
            raise DataError("the table changed while in use", file=self.name, line=self._lines[row]) from None
        return self._parse(cells, row)


class _Lines:
    """The lines of a file as text, counting them and their bytes, which ``csv`` does not."""

    def __init__(self, file: BinaryIO, *, first: bool) -> None:
        self._file, self._first = file, first
        self.consumed = self.count = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._file.readline()
        if not line:
            raise StopIteration
        self.consumed += len(line)
        self.count += 1
        if self._first and self.count == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        return line.decode("utf-8")


def _is_entry(name: str) -> bool:
    return name.partition(".")[0] in ("labels", "attributes") and "." in name


def _unreadable(error: csv.Error | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}"
    if "unexpected end of data" in str(error) or "field limit" in str(error):
        return "a quote opened in this row is never closed"
    return f"not a row of a table: {error}"
