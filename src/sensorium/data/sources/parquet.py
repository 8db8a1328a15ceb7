"""Parquet files as rows, read one row group at a time."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core import DataError, Modality
from .columns import ColumnSource, Rows, require_pyarrow

if TYPE_CHECKING:
    import pyarrow as pa

_KEPT_GROUPS = 2


class ParquetRows(Rows):
    """The rows of several files with the same columns.

    A row group is read as a whole, and the last two are kept: write groups of about a hundred rows where
    rows are large. Raises DataError for a file that is no Parquet or has other columns than the first.
    """

    def __init__(self, paths: Sequence[Path | str]) -> None:
        require_pyarrow()
        from pyarrow import ArrowInvalid, parquet

        self._files = [str(path) for path in paths]
        self._groups: list[tuple[int, int]] = []  # (file, row group in it)
        self._starts: list[int] = []  # first row of each group
        self._file_starts: list[int] = []
        self._kept: dict[int, pa.Table] = {}
        count = 0
        for number, path in enumerate(self._files):
            try:
                with parquet.ParquetFile(path) as file:
                    schema, metadata = file.schema_arrow, file.metadata
            except (ArrowInvalid, OSError) as error:
                raise DataError(f"not a Parquet file, or damaged: {error}", file=path) from None
            if number == 0:
                self.schema = schema
            elif schema.names != self.schema.names:
                reason = f"expected the columns {self.schema.names} of {self._files[0]}, found {schema.names}"
                raise DataError(reason, file=path)
            self._file_starts.append(count)
            for group in range(metadata.num_row_groups):
                self._groups.append((number, group))
                self._starts.append(count)
                count += metadata.row_group(group).num_rows
        self._count = count

    def __len__(self) -> int:
        return self._count

    def place(self, row: int) -> tuple[str, int]:
        file = bisect.bisect_right(self._file_starts, row) - 1
        return self._files[file], row - self._file_starts[file] + 1

    def scan(self, columns: Collection[str]) -> Iterator[pa.Table]:
        for group in range(len(self._groups)):
            yield self._read(group, columns)

    def __getitem__(self, row: int) -> dict[str, Any]:
        group = bisect.bisect_right(self._starts, row) - 1
        table = self._kept.get(group)
        if table is None:
            table = self._read(group, None)
            last = list(self._kept.items())[1 - _KEPT_GROUPS :]
            self._kept = dict([*last, (group, table)])  # never changed in place: threads share it
        return table.slice(row - self._starts[group], 1).to_pylist()[0]

    def _read(self, group: int, columns: Collection[str] | None) -> pa.Table:
        """A row group; with ``columns``, only these, and without the ``bytes`` beside a ``path``."""
        from pyarrow import ArrowException, parquet

        number, local = self._groups[group]
        try:
            with parquet.ParquetFile(self._files[number]) as file:
                leaves = [file.schema.column(index).path for index in range(len(file.schema))]
                if columns is not None:
                    leaves = [leaf for leaf in leaves if leaf.partition(".")[0] in columns]
                    beside = {
                        leaf.removesuffix(".path") + ".bytes" for leaf in leaves if leaf.endswith(".path")
                    }
                    leaves = [leaf for leaf in leaves if leaf not in beside]
                # without threads, which would not survive the fork of a loader's process
                return file.read_row_group(local, columns=leaves, use_threads=False)
        except (ArrowException, OSError) as error:
            reason = f"row group {local} cannot be read: {error}"
            raise DataError(reason, file=self._files[number]) from None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": {}}


class ParquetSource(ColumnSource):
    """Samples from Parquet files; see ``ColumnSource`` for the columns."""

    def __init__(
        self,
        paths: Sequence[Path | str],
        *,
        modalities: Mapping[str, Modality],
        name: str | None = None,
        split: str | None = None,
        root: Path | str | None = None,
    ) -> None:
        super().__init__(
            ParquetRows(paths),
            name=name or ", ".join(str(path) for path in paths),
            modalities=modalities,
            root=root or Path(paths[0]).parent,
            split=split,
        )
