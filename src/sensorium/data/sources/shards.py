"""WebDataset shards: tar files read at random, without ever writing a member to disk."""

from __future__ import annotations

import itertools
import os
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...core import CapabilityError, ConfigError, DataError, Modality, Sample
from .extensions import extension_table, split_extension
from .record import parse_record
from .source import IndexedSource
from .strict_json import parse_object
from .values import is_unicode

_BLOCK = 512
_MOST_SHARDS = 100_000
_LIMIT = 256 * 2**20  # bytes
_NAME = re.compile(r"(?:\./)*((?:.*/)?[^./]+)\.[^/]+", re.DOTALL)
_RECORD, _CLASS = ".json", ".cls"
_PICKLES = (".pkl", ".pickle", ".pyd", ".pth", ".pt")


@dataclass(frozen=True)
class _Member:
    """Where the bytes of one file are."""

    name: str
    extension: str
    offset: int
    size: int


class ShardSource(IndexedSource):
    """The members whose names agree up to the first dot are one sample, with that name as its key.

    The ending decides: ``.json`` holds fields of the record, ``.cls`` the label, others belong to the
    modality that claims them. Headers are read once; links, devices and names outside the shard become
    problems. Of a damaged shard, all samples before the damage are kept, except the last, which may lack
    members. ``limit``: the largest member in bytes.
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        *,
        modalities: Mapping[str, Modality],
        name: str | None = None,
        split: str | None = None,
        root: Path | str | None = None,
        limit: int = _LIMIT,
    ) -> None:
        super().__init__(name or ", ".join(str(path) for path in paths))
        self._modalities = modalities
        self._extensions = {**extension_table(modalities), _RECORD: _RECORD, _CLASS: _CLASS}
        self._root, self._limit = root, limit
        self._items: list[tuple[str, str, tuple[_Member, ...]]] = []
        self._index(itertools.chain.from_iterable(self._scan(str(path)) for path in paths), split)

    def _scan(self, shard: str) -> Iterator[tuple[int, Sample | DataError]]:
        groups: dict[str, dict[str, _Member]] = {}
        spoilt: set[str | None] = set()
        key = None
        try:
            for info in _members(shard):
                if info.isdir():
                    continue
                key = _key(info.name)
                try:
                    member = self._accept(info)
                    if member.size > self._limit:
                        spoilt.add(key)
                        raise DataError(f"{member.size:,} bytes are over the limit of {self._limit:,}")
                    members = groups.setdefault(str(key), {})
                    if member.name in members:
                        raise DataError("skipped: the shard has two members of this name")
                    members[member.name] = member
                except DataError as error:
                    yield -1, error.at(key=key, file=shard, field=_shown(info.name))
        except DataError as error:
            key = _key(error.field) if error.field else key  # else the next member, of any key, may be cut
            note = f"; the sample {key!r} may lack members and is left out" if key in groups else ""
            spoilt.add(key)
            yield -1, DataError(error.reason + note, key=key, file=shard, field=error.field)
        for key, members in groups.items():
            if key not in spoilt:
                self._items.append((shard, key, tuple(members.values())))
                row = len(self._items) - 1
                try:
                    yield row, self._parse(row)
                except DataError as error:
                    yield row, error

    def _accept(self, info: tarfile.TarInfo) -> _Member:
        if not info.isreg() or info.issparse():
            raise DataError("skipped: expected a plain file, found a link, device or sparse file")
        if info.name.startswith("/") or ".." in info.name.split("/") or "\\" in info.name:
            raise DataError("skipped: the name leads outside the shard")
        if not is_unicode(info.name):
            raise DataError("skipped: the name is not UTF-8 text")
        key = _key(info.name)
        if key is None:
            raise DataError("skipped: expected a name of the form key.extension")
        if info.name.lower().endswith(_PICKLES):
            raise DataError("refused: to read a pickle is to run a program")
        extension = split_extension(info.name, self._extensions)[1]
        if extension is None:
            expected = ", ".join(sorted(self._extensions))
            raise DataError(f"skipped: unknown kind of file; expected {expected}")
        return _Member(info.name, extension, info.offset_data, info.size)

    def _parse(self, row: int) -> Sample:
        """The sample with members in place of their bytes, but the text, label and record read."""
        shard, key, members = self._items[row]
        record: dict[str, Any] = {}
        values: dict[str, list[Any]] = {}
        for member in members:
            kind = self._extensions[member.extension]
            try:
                if kind == _RECORD:
                    _merge(record, parse_object(_read(shard, member)))
                elif kind == _CLASS:
                    _merge(record, {"label": _read_text(shard, member)})
                elif self._modalities[kind].inline:
                    values.setdefault(kind, []).append(_read_text(shard, member))
                else:
                    values.setdefault(kind, []).append(member)
            except DataError as error:
                raise error.at(key=key, file=shard, field=member.name) from None
        try:
            _merge(record, {name: found if len(found) > 1 else found[0] for name, found in values.items()})
        except DataError as error:
            raise error.at(key=key, file=shard) from None
        root = Path(os.path.realpath(self._root or Path(shard).parent))
        record.setdefault("key", key)
        return parse_record(record, modalities=self._modalities, root=root, file=shard, line=None)

    def _sample(self, row: int) -> Sample:
        sample, shard = self._parse(row), self._items[row][0]
        try:
            segments = tuple(
                replace(segment, value=_read(shard, segment.value))
                if isinstance(segment.value, _Member)
                else segment
                for segment in sample.segments
            )
        except DataError as error:
            raise error.at(key=sample.key, file=shard) from None
        return replace(sample, segments=segments)


def _key(name: str) -> str | None:
    match = _NAME.fullmatch(name)
    return match[1] if match and is_unicode(name) else None


def _shown(name: str) -> str:
    return name if is_unicode(name) else ascii(name)


def expand_shards(pattern: str) -> list[Path]:
    """The files of a brace pattern such as ``data-{000..012}.tar``; braces may nest and list.

    Raises ConfigError for a broken pattern or a missing file, CapabilityError without ``braceexpand``.
    """
    names = [pattern]
    if "{" in pattern:
        try:
            from braceexpand import braceexpand
        except ImportError:
            reason = "shard patterns need braceexpand: pip install 'sensorium[data]'"
            raise CapabilityError(reason) from None
        for low, high in re.findall(r"\{(\d+)\.\.(\d+)", pattern):  # braceexpand makes a list of every range
            if abs(int(high) - int(low)) >= _MOST_SHARDS:
                raise ConfigError(f"{pattern}: names more than {_MOST_SHARDS:,} shards")
        try:
            names = list(itertools.islice(braceexpand(pattern), _MOST_SHARDS + 1))
        except ValueError:
            raise ConfigError(f"{pattern}: the braces are not balanced") from None
        if len(names) > _MOST_SHARDS:
            raise ConfigError(f"{pattern}: names more than {_MOST_SHARDS:,} shards")
    missing = [name for name in names if not os.path.isfile(name)]
    if missing:
        raise ConfigError(
            f"{pattern}: no such file {missing[0]} ({len(missing)} of {len(names)} are missing)"
        )
    return [Path(name) for name in names]


def _members(shard: str) -> Iterator[tarfile.TarInfo]:
    """The members of a shard that are there in full. Raises DataError where the shard is damaged."""
    try:
        length = os.path.getsize(shard)
        with tarfile.open(shard, "r:") as tar:
            while (info := tar.next()) is not None:
                tar.members.clear()  # type: ignore[attr-defined]  # else every header stays in memory
                if info.size < 0 or tar.offset <= info.offset:  # would be read again and again
                    raise DataError(f"damaged: a member at byte {info.offset} has a negative size")
                if info.isreg() and info.offset_data + info.size > length:
                    raise DataError(
                        "truncated: the member goes on beyond the end of the file",
                        field=info.name,
                    )
                yield info
            end = tar.offset
        _check_end(shard, end)
    except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
        raise DataError(f"not a tar file, or damaged: {error}") from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}") from None


def _check_end(shard: str, end: int) -> None:
    """A whole tar ends with an empty block; where a header is broken, ``tarfile`` stops without a word."""
    with open(shard, "rb") as file:
        file.seek(end)
        block = file.read(_BLOCK)
    if len(block) < _BLOCK:
        raise DataError("truncated: the shard has no end mark")
    if any(block):
        raise DataError(f"damaged: no header at byte {end}, and what follows cannot be read")


def _read(shard: str, member: _Member) -> bytes:
    try:
        with open(shard, "rb") as file:
            file.seek(member.offset)
            found = file.read(member.size)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", field=member.name) from None
    if len(found) != member.size:
        raise DataError(f"expected {member.size} bytes, found {len(found)}", field=member.name)
    return found


def _read_text(shard: str, member: _Member) -> str:
    try:
        return _read(shard, member).decode("utf-8").strip()
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}") from None


def _merge(record: dict[str, Any], fields: Mapping[str, Any]) -> None:
    for name, value in fields.items():
        if name in record:
            raise DataError("two members of the sample give this field", field=name)
        record[name] = value
