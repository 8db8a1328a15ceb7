"""The files of a checkpoint's directory that describe its text, and their JSON fields. Damage is a CheckpointError."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core import CheckpointError, DataError
from ..files import MIB, read_bytes

Files = Mapping[str, bytes]

CONFIG, SPECIAL_MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
LIBRARY, CHARACTERS, MERGES, WORD_PIECES = "tokenizer.json", "vocab.json", "merges.txt", "vocab.txt"
SENTENCE_PIECES = ("sentencepiece.bpe.model", "spiece.model", "tokenizer.model")
MODEL, GENERATION = "config.json", "generation_config.json"
TEMPLATE, PROCESSOR_TEMPLATE = "chat_template.jinja", "chat_template.json"
MORE_TEMPLATES = "additional_chat_templates"  # a folder

LARGEST_TEMPLATE = MIB

_HELD = (LIBRARY, CHARACTERS, MERGES, WORD_PIECES, *SENTENCE_PIECES)  # these hold a vocabulary
_LARGEST = (
    dict.fromkeys(_HELD, 256 * MIB)
    | dict.fromkeys((CONFIG, SPECIAL_MAP, ADDED, MODEL, GENERATION), 16 * MIB)
    | {TEMPLATE: LARGEST_TEMPLATE, PROCESSOR_TEMPLATE: 2 * LARGEST_TEMPLATE}
)
_MOST_TEMPLATES = 64
_MOST_IDS = 1 << 31


def read_files(directory: Path) -> dict[str, bytes]:
    """The content of every known file in ``directory``, by name. Raises CheckpointError if none holds a vocabulary."""
    more = sorted(f"{MORE_TEMPLATES}/{file.name}" for file in (directory / MORE_TEMPLATES).glob("*.jinja"))
    if len(more) > _MOST_TEMPLATES:
        raise CheckpointError(
            f"{directory / MORE_TEMPLATES}: expected at most {_MOST_TEMPLATES} templates, found {len(more):,}"
        )
    found = {}
    for name, largest in (_LARGEST | dict.fromkeys(more, LARGEST_TEMPLATE)).items():
        file = directory / name
        if file.exists():
            try:
                found[name] = read_bytes(file, largest)
            except DataError as error:
                raise CheckpointError(f"{file}: {error.reason}") from None
    if not found.keys() & set(_HELD):
        raise CheckpointError(
            f"{directory}: expected the files of a tokenizer, found none of {', '.join(_HELD)}"
        )
    return found


@dataclass(frozen=True)
class Fields:
    """A JSON object of the file ``file``. What is asked for is checked; what is ``null`` counts as absent."""

    file: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def text(self, name: str) -> str | None:
        """A string."""
        return self._of(name, str, "a string", None)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        return self._of(name, bool, "true or false", default)

    def number(self, name: str) -> float | None:
        """A number above 0."""
        found = self._of(name, int | float, "a number", None)
        if isinstance(found, bool) or (found is not None and not found > 0):
            raise self.wrong(name, "a number above 0")
        return found

    def count(self, name: str, default: int, most: int) -> int:
        """A whole number from 0 to ``most``."""
        found = self._of(name, int, "a whole number", default)
        if isinstance(found, bool) or not 0 <= found <= most:
            raise self.wrong(name, f"a whole number from 0 to {most:,}")
        return found

    def choice(self, name: str, default: str, *choices: str) -> str:
        """One of ``choices``."""
        found = self.text(name) or default
        if found not in choices:
            raise self.wrong(name, " or ".join(map(repr, choices)))
        return found

    def items(self, name: str) -> list[Any]:
        """A list, or the values of an object."""
        found = self._of(name, list | dict, "a list", [])
        return list(found.values()) if isinstance(found, dict) else found

    def inner(self, name: str) -> Fields:
        """An object."""
        return Fields(f"{self.file}: field {name!r}", self._of(name, dict, "an object", {}))

    def without(self, *names: str) -> Fields:
        """The same without some fields."""
        return Fields(self.file, {name: value for name, value in self.values.items() if name not in names})

    def wrong(self, name: str, expected: str) -> CheckpointError:
        """The error that names the file and the field."""
        found = repr(self.values.get(name))
        return CheckpointError(f"{self.file}: field {name!r}: expected {expected}, found {found[:80]}")

    def _of(self, name: str, kind: Any, expected: str, default: Any) -> Any:
        found = self.values.get(name)
        if found is None:
            return default
        if not isinstance(found, kind):
            raise self.wrong(name, expected)
        return found


def fields(files: Files, name: str) -> Fields:
    """The JSON object in the file ``name``; an empty one if there is no such file."""
    if name not in files:
        return Fields(name)
    try:
        found = json.loads(files[name])
    except RecursionError:
        raise CheckpointError(f"{name}: expected a JSON object, found one nested too deeply") from None
    except ValueError as error:  # of JSON, of UTF-8, and a number of too many digits
        raise CheckpointError(f"{name}: expected a JSON object: {str(error)[:200]}") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{name}: expected a JSON object, found {type(found).__name__}")
    return Fields(name, found)


def lines(files: Files, name: str) -> list[str]:
    """The lines of the UTF-8 file ``name``, without white space at their ends."""
    try:
        content = files[name].decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{name}: expected UTF-8 text, found a broken byte at {error.start:,}"
        ) from None
    found = [line.rstrip() for line in content.split("\n")]
    return found[:-1] if found[-1] == "" else found


def ids(of: Fields) -> dict[str, int]:
    """An object that gives each token its number."""
    for token, number in of.values.items():
        if not is_id(number):
            raise of.wrong(token, "a token's number, from 0")
    return dict(of.values)


def is_id(number: Any) -> bool:
    """Whether a value of a file is a token's number."""
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < _MOST_IDS
