"""The fields of a public ``preprocessor_config.json``, read so that none is passed over in silence."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from ..core import CapabilityError, ConfigError, nearest

FILE = "preprocessor_config.json"
_KINDS = ("image_processor_type", "feature_extractor_type", "video_processor_type")
_ENDING = re.compile(r"(ImageProcessor|FeatureExtractor|VideoProcessor)(Fast|Pil)?$")
_CODE = "auto_map"
_OWNER = "processor_class"


class Fields:
    """The fields of one JSON object that are not null; ``finish`` refuses those that nobody asked for.

    Each error is a ConfigError that names ``where`` (the file) and the field, what was expected and what was found.
    ``owner`` is the class of processors that holds the one of this file, "" if the file does not say.
    """

    def __init__(self, config: Mapping[str, Any], where: str, section: str) -> None:
        """``section`` is the field that holds the object, if the file has one (``processor_config.json``)."""
        if not isinstance(config, Mapping):
            raise ConfigError(f"{where}: expected an object, found {type(config).__name__}")
        owner = config.get(_OWNER)
        if isinstance(inner := config.get(section), Mapping):
            config = inner
            owner = config.get(_OWNER, owner)
        self.where, self.owner = where, str(owner or "")
        self._fields = {name: value for name, value in config.items() if value is not None}
        self._seen = {_OWNER}

    def kind(self, default: str | None) -> str:
        """The class that wrote the file, without "ImageProcessor" (or the like) and its variant.

        ``default`` is for files that do not say. Raises ConfigError if neither does or two fields contradict each
        other, CapabilityError if only code of the file's author could tell.
        """
        self._seen |= {*_KINDS, _CODE}
        found = {_ENDING.sub("", self.text(name)) for name in _KINDS if name in self._fields}
        if len(found) > 1:
            raise self.error(_KINDS[0], f"contradictory: {' and '.join(sorted(found))}")
        if found:
            return found.pop()
        if _CODE in self._fields:
            raise CapabilityError(f"{self.where}: {_CODE}: names code to run, which is never done")
        if default is None:
            raise self.error(_KINDS[0], "expected the name of a class, but the field is missing")
        return _ENDING.sub("", default)

    def get(self, name: str, default: Any = None) -> Any:
        """Any value."""
        self._seen.add(name)
        return self._fields.get(name, default)

    def flag(self, name: str, default: bool) -> bool:
        value = self.get(name, default)
        if not isinstance(value, bool):
            raise self.expected(name, "true or false", value)
        return value

    def whole(self, name: str, default: int, least: int = 1) -> int:
        """A whole number, also if written as 10.0."""
        value = self.get(name, default)
        if not _is_number(value) or value != int(value) or value < least:
            raise self.expected(name, f"a whole number, at least {least}", value)
        return int(value)

    def number(self, name: str, default: float, least: float = -math.inf) -> float:
        value = self.get(name, default)
        if not _is_number(value) or value < least:
            raise self.expected(
                name, "a number" if least == -math.inf else f"a number, at least {least}", value
            )
        return float(value)

    def text(self, name: str, default: str = "", among: Collection[str] | None = None) -> str:
        value = self.get(name, default)
        if not isinstance(value, str):
            raise self.expected(name, "a name", value)
        if among is not None and value not in among:
            raise CapabilityError(f"{self.where}: {name}: there is no {value!r}{nearest(value, among)}")
        return value

    def expect(self, name: str, *values: Any) -> None:
        """A field that, where present, must have one of ``values``: CapabilityError for what is not built."""
        value = self.get(name, values[0])
        if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in values):
            listed = " or ".join(map(repr, values))
            raise CapabilityError(f"{self.where}: {name}: only {listed} is supported, found {value!r:.80}")

    def agree(self, name: str, value: float) -> None:
        """A field that, where present, repeats what others say."""
        if self.get(name, value) != value:
            raise self.error(
                name, f"contradictory: the other fields make it {value}, found {self.get(name)!r:.80}"
            )

    def ignore(self, *names: str) -> None:
        """Fields without influence on what is read here."""
        self._seen.update(names)

    def finish(self) -> None:
        """Raise ConfigError for a field that nobody asked for."""
        for name in self._fields:
            if name not in self._seen:
                raise self.error(name, f"unknown field{nearest(name, self._seen)}")

    def error(self, name: str, reason: str) -> ConfigError:
        return ConfigError(f"{self.where}: {name}: {reason}")

    def expected(self, name: str, what: str, value: Any) -> ConfigError:
        return self.error(name, f"expected {what}, found {value!r:.80}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
