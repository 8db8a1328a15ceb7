"""One field of a record, checked: a path inside the data root, an inline value, text, or a name."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ...core import DataError, Modality, nearest
from .strict_json import kind

#: The modality that a language head can produce: its name in every manifest.
TEXT = "text"


def resolve(text: str, root: Path, *, field: str | None = None) -> Path:
    """The path of a file named relative to ``root`` (itself free of links). It need not exist.

    Raises DataError if it lies outside ``root`` by being absolute, by ``..`` or through a symbolic link.
    """
    if "://" in text:
        raise DataError(f"expected a path to a local file, found the URL {text[:80]!r}", field=field)
    path = os.path.join(root, text)
    try:
        real = os.path.realpath(path)
    except ValueError:
        raise DataError(f"{text[:80]!a} cannot be a path", field=field) from None
    if not _is_inside(real, root):
        through = " through a symbolic link" if _is_inside(os.path.normpath(path), root) else ""
        raise DataError(f"the path {text!r} leads outside the data root {root}{through}", field=field)
    return Path(path)


def is_unicode(text: str) -> bool:
    """Whether ``text`` can be written; the name of a file need not be."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text)


def media_values(
    field: str, value: Any, *, name: str, modality: Modality, root: Path
) -> Iterator[tuple[str, Any]]:
    """The (field, value) of each segment of a field: one, or one for each item of a list of paths or texts.

    A list of numbers, or of such lists, is one value. Raises DataError.
    """
    if not isinstance(value, list) or _is_numeric(value):
        yield field, _media_value(field, value, name=name, modality=modality, root=root)
        return
    if not value:
        raise DataError("the list is empty; leave the field out instead", field=field)
    for index, item in enumerate(value):
        part = f"{field}[{index}]"
        yield part, _media_value(part, item, name=name, modality=modality, root=root)


def text_value(value: Any, field: str) -> str:
    """``value``, which must be text that is not blank. Raises DataError."""
    if not isinstance(value, str):
        raise DataError(f"expected text, found {kind(value)}", field=field)
    if not value.strip():
        raise DataError("the text is empty", field=field)
    return value


def name_value(value: Any, field: str) -> str:
    """``value`` as a name (of a sample, class, split or group): text, or an integer written as text."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_value(value, field).strip()


def object_value(value: Any, field: str, *, fields: Collection[str] | None = None) -> dict[str, Any]:
    """``value``, which must be an object, without its null fields; with ``fields``, only these are known."""
    if not isinstance(value, Mapping):
        raise DataError(f"expected an object, found {kind(value)}", field=field)
    present = {name: item for name, item in value.items() if item is not None}
    for name in present:
        if fields is not None and name not in fields:
            raise DataError(f"unknown field{nearest(name, fields)}", field=f"{field}.{name}")
    return present


def list_value(value: Any, field: str) -> list[Any]:
    """``value``, which must be a list with items."""
    if not isinstance(value, list):
        raise DataError(f"expected a list, found {kind(value)}", field=field)
    if not value:
        raise DataError("the list is empty; leave the field out instead", field=field)
    return value


def _media_value(field: str, value: Any, *, name: str, modality: Modality, root: Path) -> Any:
    if name == TEXT:
        return text_value(value, field)
    if (
        isinstance(value, Mapping) and value and value.keys() <= {"bytes", "path"}
    ):  # as `datasets` stores media
        value = value["bytes"] if value.get("bytes") is not None else value.get("path")
    if value is None:
        raise DataError("expected a value, found nothing", field=field)
    if isinstance(value, str):
        if not value.strip():
            raise DataError("the value is empty" if modality.inline else "the path is empty", field=field)
        return value if modality.inline else resolve(value, root, field=field)
    if not modality.inline and isinstance(value, bool | int | float | Mapping):
        raise DataError(f"expected the path of a file, found {kind(value)}", field=field)
    return value


def _is_inside(path: str, root: Path) -> bool:
    return path.startswith(os.path.join(root, "")) or path == str(root)


def _is_numeric(value: Any) -> bool:
    while isinstance(value, list) and value:
        value = value[0]
    return isinstance(value, int | float) and not isinstance(value, bool)
