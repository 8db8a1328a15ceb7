"""A tree with one folder per class: ``root/cat/1.png``, ``root/cat/1.wav``."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from ...core import DataError, Modality, Sample
from .extensions import extension_table, split_extension
from .record import parse_record
from .source import IndexedSource
from .values import is_unicode, resolve


class FolderSource(IndexedSource):
    """The folder is the label; the files of one stem, as ``1.png`` and ``1.wav``, are one sample ``cat/1``.

    The order is by class, then by stem. Hidden files are skipped; links may not lead outside ``root``, which
    is the tree itself unless given. Raises DataError if there is no folder of a class.
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
        self._path = Path(os.path.realpath(path))
        self._root = Path(os.path.realpath(root or path))
        self._modalities = modalities
        self._extensions = extension_table(modalities)
        self._items: list[tuple[str, str, tuple[str, ...]]] = []
        self._index(self._scan(), split)

    def _scan(self) -> Iterator[tuple[int, Sample | DataError]]:
        try:
            entries = _visible(self._path)
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", file=self.name) from None
        if not any(entry.is_dir() for entry in entries):
            raise DataError(
                f"a class-less folder: expected one folder per class, as {self.name}/cat/1.png; "
                f"found {len(entries)} {'entry' if len(entries) == 1 else 'entries'} and no folder",
                file=self.name,
            )
        for entry in entries:
            if entry.is_dir():
                yield from self._scan_class(entry)
            else:
                reason = "a file without a class: expected it inside the folder of its class"
                yield -1, DataError(reason, file=self._named(entry))

    def _scan_class(self, folder: os.DirEntry[str]) -> Iterator[tuple[int, Sample | DataError]]:
        stems: dict[str, list[str]] = {}
        try:
            entries = _visible(Path(folder.path))
        except OSError as error:
            yield -1, DataError(f"cannot be read: {error.strerror}", file=self._named(folder))
            return
        if not entries:
            yield -1, DataError("the folder of this class is empty", file=self._named(folder))
        for entry in entries:
            stem, extension = split_extension(entry.name, self._extensions)
            if not is_unicode(entry.name):
                yield -1, DataError("the name of the file is not UTF-8 text", file=self._named(entry))
            elif entry.is_dir():
                reason = (
                    "a folder inside the folder of a class: expected files. In a tree of splits, name one "
                    f"split, as {self._named(folder)}"
                )
                yield -1, DataError(reason, file=self._named(entry))
            elif extension is None:
                expected = ", ".join(sorted(self._extensions))
                yield -1, DataError(f"unknown kind of file: expected {expected}", file=self._named(entry))
            else:
                stems.setdefault(stem, []).append(entry.name)
        for stem in sorted(stems):
            self._items.append((folder.name, stem, tuple(stems[stem])))
            row = len(self._items) - 1
            try:
                yield row, self._sample(row)
            except DataError as error:
                yield row, error

    def _sample(self, row: int) -> Sample:
        label, stem, names = self._items[row]
        key, file = f"{label}/{stem}", os.path.join(self.name, label, names[0])
        values: dict[str, list[str]] = {}
        for name in names:
            modality = self._extensions[split_extension(name, self._extensions)[1] or ""]
            path = str(self._path / label / name)
            if self._modalities[modality].inline:
                try:
                    path = _read_text(resolve(path, self._root))
                except DataError as error:
                    place = os.path.join(self.name, label, name)
                    raise error.at(key=key, file=place, field=modality) from None
            values.setdefault(modality, []).append(path)
        record = {name: found if len(found) > 1 else found[0] for name, found in values.items()}
        record |= {"key": key, "label": label}
        return parse_record(record, modalities=self._modalities, root=self._root, file=file, line=None)

    def _named(self, entry: os.DirEntry[str]) -> str:
        path = os.path.join(self.name, os.path.relpath(entry.path, self._path))
        return path.encode("utf-8", "backslashreplace").decode("utf-8")


def _visible(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda e: e.name)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from None
