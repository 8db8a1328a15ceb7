"""JSON objects that others wrote, read without guessing."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ..core.errors import CheckpointError

LARGEST = 10_000_000


def read_object(file: Path, *, largest: int = LARGEST) -> dict[str, Any]:
    """The JSON object in ``file``, of at most ``largest`` bytes.

    Raises CheckpointError naming the file if it is missing, too large or no strict JSON object.
    """
    try:
        with file.open("rb") as stream:
            text = stream.read(largest + 1)
    except OSError as error:
        raise CheckpointError(f"{file}: cannot be read: {error.strerror}") from None
    if len(text) > largest:
        raise CheckpointError(f"{file}: expected at most {largest:,} bytes of JSON, found more")
    return parse_object(text, str(file))


def parse_object(text: bytes, where: str) -> dict[str, Any]:
    """The JSON object ``text``: UTF-8, every number finite, every name once in its object.

    Raises CheckpointError naming ``where``.
    """
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_object,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except RecursionError:
        raise CheckpointError(f"{where}: JSON nested too deeply") from None
    except ValueError as error:
        raise CheckpointError(f"{where}: not strict JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: expected a JSON object, found {type(value).__name__}")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name!r} occurs twice")
        found[name] = value
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text} is not finite")
    return value
