"""A public ``config.json``, read so that no field of it is passed over in silence."""

from __future__ import annotations

import math
import types
from collections.abc import Collection, Mapping
from copy import copy
from pathlib import Path
from typing import Any, get_args, get_origin

from ..core.errors import CapabilityError, ConfigError, nearest
from .config_fields import CODE, NEUTRAL, UNUSED
from .strict_json import read_object

_REQUIRED: Any = object()


class Config:
    """The fields of a JSON object. Each is taken, expected, ignored or opened as a section; ``finish`` finds the rest.

    A ConfigError or CapabilityError names the file and the dotted field, what was expected and what was found.
    ``notices`` is what the user should be told, of this object and its sections; complete after ``finish``.
    """

    def __init__(
        self,
        fields: Mapping[str, Any],
        file: Path | str,
        *,
        path: str = "",
        older: Mapping[str, Any] | None = None,
        notices: list[str] | None = None,
    ) -> None:
        """``path`` is the dotted place in ``file``; ``older`` must not contradict the fields: see ``section``."""
        self._fields, self._older = fields, older or {}
        self._file, self._path = file, path
        self._seen: set[str] = set()
        self._sections: dict[str, Config] = {}
        self._ignored: dict[str, Any] = {}
        self._assumed: Mapping[str, Any] = {}
        self.notices = [] if notices is None else notices

    @classmethod
    def read(cls, file: Path | str) -> Config:
        """The object in ``file``. Raises CheckpointError if it is missing, too large or no strict JSON."""
        return cls(read_object(Path(file)), file)

    def __contains__(self, name: str) -> bool:
        """Whether the file gives the field a value other than null."""
        return self._fields.get(name) is not None

    @property
    def raw(self) -> Mapping[str, Any]:
        """The fields as they are in the file, to choose by; what is read in this way counts as not taken."""
        return self._fields

    @property
    def code(self) -> tuple[str, ...]:
        """The fields that name code, which is never run."""
        return tuple(name for name in CODE if name in self)

    def take(
        self,
        name: str,
        kind: Any,
        default: Any = _REQUIRED,
        *,
        among: Collection[Any] | None = None,
        least: float | None = None,
        most: float | None = None,
    ) -> Any:
        """The field's value as a ``kind``: a plain type, ``list[kind]``, ``kind | None`` or ``int | list[int]``.

        ``default`` stands for a field that the file omits; without one it is required. Bounds hold for
        every number of a list. A whole number is a float where one is asked for; a boolean is no number.
        """
        self._seen.add(name)
        default = self._assumed.get(name, default)
        if name not in self._fields and default is _REQUIRED:
            raise ConfigError(f"{self._place(name)}: expected {_words(kind)}, but the field is missing")
        value = self._fields.get(name, default)
        if name in self._fields:
            if not _fits(value, kind):
                raise ConfigError(f"{self._place(name)}: expected {_words(kind)}, found {value!r:.80}")
            value = _floats(value, kind)
            if among is not None and value not in among:
                listed = ", ".join(map(repr, among))
                raise ConfigError(f"{self._place(name)}: expected one of {listed}, found {value!r:.80}")
            for number in value if isinstance(value, list) else [value]:
                self._check_bounds(name, number, least, most)
        if name in self._older and not _same(self._older[name], value):
            raise ConfigError(
                f"{self._place(name)}: contradictory: {value!r:.80} here, {self._older[name]!r:.80} in the other"
            )
        return value

    def assume(self, fields: Mapping[str, Any]) -> None:
        """What stands for fields that the file omits, before the defaults with which they are taken."""
        self._assumed = fields

    def expect(self, name: str, *values: Any) -> None:
        """A field that, where present, must have one of ``values``: CapabilityError for what is not built."""
        self._seen.add(name)
        for fields in (self._fields, self._older):
            if name in fields and not any(_same(fields[name], value) for value in values):
                listed = " or ".join(map(repr, values))
                raise CapabilityError(
                    f"{self._place(name)}: only {listed} is supported, found {fields[name]!r:.80}"
                )

    def ignore(self, *names: str) -> None:
        """Fields that have no influence on what the model computes; ``ignored`` gives them back."""
        self._seen.update(names)
        self._ignored |= {name: self._fields[name] for name in names if name in self}

    def ignored(self) -> dict[str, Any]:
        """What was given in the fields that are ignored, of this object and its sections, to be written again."""
        inner = {name: section.ignored() for name, section in self._sections.items()}
        return self._ignored | {name: fields for name, fields in inner.items() if fields}

    def without(self, *names: str) -> Config:
        """The same object as if it did not give these fields, which whoever asks has taken or ignored."""
        view = copy(self)  # what is taken from it is taken from this
        view._fields = {name: value for name, value in self._fields.items() if name not in names}
        return view

    def section(self, name: str, replacement: str | None = None) -> Config:
        """The object in a field; one without fields where the file omits it or says null.

        ``replacement`` names a field that, where present, is read instead and must not contradict the other
        (CLIP's ``text_config_dict`` and ``text_config``).
        """
        if name not in self._sections:
            fields, older = self._object(name), None
            if replacement is not None and replacement in self:
                fields, older = self._object(replacement), fields
            self._seen.update({name, replacement or name})
            self._sections[name] = Config(
                fields, self._file, path=f"{self._path}{name}.", older=older, notices=self.notices
            )
        return self._sections[name]

    def finish(self) -> None:
        """Raise ConfigError for a field that nobody asked for, in this object or a section of it.

        Fields that every transformers config may carry are known: those without influence are passed over,
        those that would change the model must have the value that does not (else CapabilityError).
        """
        for name in [*self._fields, *self._older]:
            if name in NEUTRAL and name not in self._seen:
                self.expect(name, *NEUTRAL[name])
            elif name not in self._seen and name not in UNUSED and name not in CODE:
                raise ConfigError(f"{self._place(name)}: unknown field{nearest(name, self._seen)}")
        self.notices += [f"{self._place(name)}: names code, which is never run" for name in self.code]
        for section in self._sections.values():
            section.finish()

    def error(self, name: str, what: str) -> ConfigError:
        """An error about a field, or about how it goes with others."""
        return ConfigError(f"{self._place(name)}: {what}")

    def _object(self, name: str) -> Mapping[str, Any]:
        value = self._fields.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ConfigError(f"{self._place(name)}: expected an object, found {value!r:.80}")
        return value

    def _check_bounds(self, name: str, number: Any, least: float | None, most: float | None) -> None:
        if not isinstance(number, int | float) or isinstance(number, bool):
            return
        if (least is not None and number < least) or (most is not None and number > most):
            bounds = [f"at least {least}"] * (least is not None) + [f"at most {most}"] * (most is not None)
            raise ConfigError(f"{self._place(name)}: expected {' and '.join(bounds)}, found {number!r}")

    def _place(self, name: str) -> str:
        return f"{self._file}: {self._path}{name}"


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, types.UnionType):
        return any(_fits(value, option) for option in get_args(kind))
    if get_origin(kind) is list:
        return isinstance(value, list) and all(_fits(item, get_args(kind)[0]) for item in value)
    if kind is float:
        return _is_number(value) and math.isfinite(value)
    if kind is int:
        return isinstance(value, int) and _is_number(value)
    return value is None if kind is types.NoneType or kind is None else isinstance(value, kind)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _floats(value: Any, kind: Any) -> Any:
    """Whole numbers as floats where only those were asked for."""
    if isinstance(kind, types.UnionType):
        options = [option for option in get_args(kind) if _fits(value, option)]
        return _floats(value, options[0])
    if get_origin(kind) is list:
        return [_floats(item, get_args(kind)[0]) for item in value]
    return float(value) if kind is float else value


def _same(one: Any, other: Any) -> bool:
    """Equal, and not a number on one side and a boolean on the other."""
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _words(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and get_origin(kind) is None else str(kind)
