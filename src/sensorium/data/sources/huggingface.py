"""A Hugging Face data set as rows, without letting `datasets` decode anything."""

from __future__ import annotations

import bisect
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core import CapabilityError, ConfigError, DataError, Modality
from .columns import ColumnSource, Rows

if TYPE_CHECKING:
    import datasets
    import pyarrow as pa

_BATCH = 1000


class DatasetRows(Rows):
    """The rows of one data set, or of all splits of one that is divided; each row then names its split."""

    def __init__(self, parts: Mapping[str, datasets.Dataset], *, name: str, divided: bool) -> None:
        self._files = [f"{name}/{part}" if divided else name for part in parts]
        self._splits = list(parts) if divided else [None]
        self._parts = [part.with_format("arrow") for part in parts.values()]
        self._starts = [sum(map(len, self._parts[:index])) for index in range(len(self._parts))]
        schemas = [part.features.arrow_schema for part in self._parts]
        for file, schema in zip(self._files, schemas, strict=True):
            if schema.names != schemas[0].names:
                raise DataError(f"expected the columns {schemas[0].names}, found {schema.names}", file=file)
        self.schema = schemas[0]

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def place(self, row: int) -> tuple[str, int]:
        part = self._part(row)
        return self._files[part], row - self._starts[part] + 1

    def split(self, row: int) -> str | None:
        return self._splits[self._part(row)]

    def scan(self, columns: Collection[str]) -> Iterator[pa.Table]:
        for part in self._parts:
            chosen = part.select_columns(list(columns))
            for start in range(0, len(chosen), _BATCH):
                yield chosen[start : start + _BATCH]

    def __getitem__(self, row: int) -> dict[str, Any]:
        part = self._part(row)
        return self._parts[part][row - self._starts[part]].to_pylist()[0]

    def _part(self, row: int) -> int:
        return bisect.bisect_right(self._starts, row) - 1


class DatasetSource(ColumnSource):
    """Samples from a `datasets.Dataset`, a `DatasetDict`, or a folder in which one was saved.

    See ``ColumnSource`` for the columns; rename others first, or put them below ``labels``. Raises
    CapabilityError without `datasets`, ConfigError for another object, DataError for a damaged folder.
    """

    def __init__(
        self,
        data: Path | str | datasets.Dataset | datasets.DatasetDict,
        *,
        modalities: Mapping[str, Modality],
        name: str | None = None,
        split: str | None = None,
        root: Path | str | None = None,
    ) -> None:
        try:
            from datasets import Dataset, DatasetDict, load_from_disk
        except ImportError:
            reason = "a Hugging Face data set needs `datasets`: pip install 'sensorium[data]'"
            raise CapabilityError(reason) from None
        folder = Path(data) if isinstance(data, str | Path) else None
        name = name or str(folder or "dataset")
        if folder is not None:
            try:
                data = load_from_disk(str(folder))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise DataError(f"not a saved data set, or damaged: {error}", file=name) from None
        divided = isinstance(data, DatasetDict)
        if not data or not isinstance(data, Dataset | DatasetDict):
            raise ConfigError(f"{name}: expected a data set with rows, found {type(data).__name__} without")
        super().__init__(
            DatasetRows(data if divided else {name: data}, name=name, divided=divided),
            name=name,
            modalities=modalities,
            root=root or folder or Path(),
            split=split,
        )
