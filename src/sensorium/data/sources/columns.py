"""Rows of Arrow columns as Samples, whatever holds them: Parquet files or a Hugging Face data set."""

from __future__ import annotations

import abc
import itertools
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core import CapabilityError, DataError, Modality, Sample
from .dialogue import plural
from .record import check_fields, parse_record
from .source import IndexedSource

if TYPE_CHECKING:
    import pyarrow as pa


class Rows(abc.ABC):
    """Rows by number. Nothing is decoded: a picture is the struct of bytes and path that was stored."""

    #: Names and types of the columns.
    schema: pa.Schema

    @abc.abstractmethod
    def place(self, row: int) -> tuple[str, int]:
        """The file that holds a row, and the number of the row in it, from 1."""

    @abc.abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    def split(self, row: int) -> str | None:
        """The split of a row whose columns name none."""
        return None

    @abc.abstractmethod
    def scan(self, columns: Collection[str]) -> Iterator[pa.Table]:
        """All rows in order, with these columns only; ``bytes`` inside a struct may be left out."""

    @abc.abstractmethod
    def __getitem__(self, row: int) -> dict[str, Any]:
        """All columns of a row. Raises DataError if it cannot be read."""


class ColumnSource(IndexedSource):
    """The columns are the fields of a record; null is an absent field; class numbers become their names.

    Indexing reads all columns but the bytes of media, so that damaged ones are found when they are read.
    Raises DataError for a column that is no field.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        name: str,
        modalities: Mapping[str, Modality],
        root: Path | str,
        split: str | None = None,
    ) -> None:
        super().__init__(name)
        self._rows, self._modalities = rows, modalities
        self._root = Path(os.path.realpath(root))
        self._classes = _class_names(rows.schema)
        try:
            check_fields(rows.schema.names, modalities)
        except DataError as error:
            raise error.at(file=name) from None
        self._index(self._scan(), split)

    def _scan(self) -> Iterator[tuple[int, Sample | DataError]]:
        schema, fields = self._rows.schema, {*self._modalities, *map(plural, self._modalities)}
        media = {field.name: _media(field.type) for field in schema if field.name in fields}
        stored = {name: _STORED for name, how in media.items() if how == "whole"}
        names = [name for name in schema.names if name not in stored]
        tables = self._rows.scan(names) if names else ()
        records = itertools.chain.from_iterable(_records(table, media) for table in tables)
        for row, record in enumerate(records if names else ({} for _ in range(len(self._rows)))):
            try:
                yield row, self._parse(record | stored, row)
            except DataError as error:
                yield row, error

    def _parse(self, record: dict[str, Any], row: int) -> Sample:
        file, line = self._rows.place(row)
        named = {"split": self._rows.split(row)} | {name: _present(value) for name, value in record.items()}
        try:
            for name, classes in self._classes.items():
                number = named.get(name)
                if number is not None:
                    named[name] = _class_name(number, classes, name)
        except DataError as error:
            raise error.at(file=file, line=line) from None
        return parse_record(named, modalities=self._modalities, root=self._root, file=file, line=line)

    def _sample(self, row: int) -> Sample:
        return self._parse(self._rows[row], row)


class _Stored:
    """Stands for media that indexing did not read."""


_STORED = _Stored()


def _media(kind: pa.DataType) -> str:
    """How a column of media is indexed: by ``path``, by its ``outline`` without bytes, or (``whole``) not."""
    from pyarrow import types

    item = kind.value_type if types.is_list(kind) or types.is_large_list(kind) else kind
    if types.is_string(item) or types.is_large_string(item):
        return "path"
    return "outline" if types.is_struct(item) or (item is not kind and types.is_binary(item)) else "whole"


def _records(table: pa.Table, media: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    columns = [
        _outline(table[name]) if media.get(name) == "outline" else table[name].to_pylist()
        for name in table.schema.names
    ]
    for values in zip(*columns, strict=True):
        yield dict(zip(table.schema.names, values, strict=True))


def _outline(column: pa.ChunkedArray) -> list[Any]:
    """Which rows have media, and how many, without what they are."""
    from pyarrow import compute, types

    if types.is_struct(column.type):
        return [_STORED if valid else None for valid in column.is_valid().to_pylist()]
    counts = compute.list_value_length(column).to_pylist()
    return [None if count is None else [_STORED] * count for count in counts]


def require_pyarrow() -> None:
    """Raises CapabilityError if pyarrow is not installed."""
    try:
        import pyarrow as pa  # noqa: F401
    except ImportError:
        raise CapabilityError("Parquet and Arrow need pyarrow: pip install 'sensorium[data]'") from None


def _present(value: Any) -> Any:
    """None for a struct of bytes and path that holds neither."""
    if isinstance(value, dict) and value and all(item is None for item in value.values()):
        return None
    return value


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Names of the classes of each column that `datasets` stored as class numbers."""
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    if not isinstance(features, dict):
        return {}
    return {
        name: feature["names"]
        for name, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and "names" in feature
    }


def _class_name(number: int, classes: list[str], field: str) -> str:
    if not 0 <= number < len(classes):
        raise DataError(f"expected a class from 0 to {len(classes) - 1}, found {number}", field=field)
    return classes[number]
