"""JSON as the standard has it: no NaN, no field named twice, no text that is not Unicode."""

from __future__ import annotations

import json
from typing import Any

from ...core import DataError


def parse_object(text: str | bytes) -> dict[str, Any]:
    """The JSON object in ``text`` (bytes are UTF-8). Raises DataError for anything else."""
    value = parse_json(text)
    if not isinstance(value, dict):
        raise DataError(f"expected a JSON object, found {kind(value)}")
    return value


def parse_json(text: str | bytes) -> Any:
    """The JSON value in ``text``. Raises DataError for what is not JSON, for NaN and for repeated fields."""
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = _DECODER.decode(text)
        if (
            "\\ud" in text or "\\uD" in text
        ):  # half a character is legal JSON, but no text that can be written
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        return value
    except UnicodeEncodeError:
        raise DataError("not Unicode text: half of a surrogate pair stands alone") from None
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text: byte {error.start} is {error.object[error.start]:#04x}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"not JSON: {error.msg} at character {error.pos + 1}") from None
    except ValueError:  # an integer of thousands of digits
        raise DataError("not JSON that can be read: a number is too long") from None
    except RecursionError:
        raise DataError("not JSON that can be read: nested too deeply") from None


def kind(value: Any) -> str:
    """What a value is, in the words of a user's file."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, list):
        return "a list"
    return "an object" if isinstance(value, dict) else f"a value of type {type(value).__name__}"


def _refuse_constant(name: str) -> Any:
    raise DataError(f"{name} is not JSON: expected a finite number or null")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError("the field is given twice", field=twice)
    return found


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant, object_pairs_hook=_without_repeats)
