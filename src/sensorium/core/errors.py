"""The four errors a user meets. Each says which thing is wrong, what was expected and what was found."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SensoriumError(Exception):
    """Base of every error that a user's input can cause; the command line prints it without a traceback."""


class ConfigError(SensoriumError):
    """A wrong option, Spec path, recipe name or combination of settings."""


class CheckpointError(SensoriumError):
    """A checkpoint or weight file that is damaged, incomplete or made for another model."""


class CapabilityError(SensoriumError):
    """Something this model, build or installation cannot do; names what would make it possible."""


class DataError(SensoriumError):
    """One broken item of a user's data.

    Attributes hold what is known of the place, so that a quarantine entry can name it:
    ``reason``, ``key`` of the sample, ``file``, ``line`` (1-based) and ``field``.
    """

    def __init__(
        self,
        reason: str,
        *,
        key: str | None = None,
        file: str | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.key, self.file, self.line, self.field = reason, key, file, line, field

    def at(
        self,
        *,
        key: str | None = None,
        file: str | None = None,
        line: int | None = None,
        field: str | None = None,
    ) -> DataError:
        """This error with the parts of its place that were not known where it arose."""
        return DataError(
            self.reason,
            key=self.key or key,
            file=self.file or file,
            line=self.line or line,
            field=self.field or field,
        )

    def record(self) -> dict[str, str | int]:
        """The error as a JSON object, without the unknown parts."""
        parts = {"key": self.key, "file": self.file, "line": self.line, "field": self.field}
        return {name: value for name, value in parts.items() if value is not None} | {"reason": self.reason}

    def __str__(self) -> str:
        place = [self.file and f"{self.file}" + (f":{self.line}" if self.line else "")]
        place += [self.key and f"key {self.key!r}", self.field and f"field {self.field!r}"]
        named = ", ".join(part for part in place if part)
        return f"{named}: {self.reason}" if named else self.reason

    def __reduce__(
        self,
    ):  # loader processes send errors back by pickle, which knows only positional arguments
        return _restore, (self.reason, self.key, self.file, self.line, self.field)


def _restore(
    reason: str, key: str | None, file: str | None, line: int | None, field: str | None
) -> DataError:
    return DataError(reason, key=key, file=file, line=line, field=field)


def nearest(name: str, known: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` for the known name closest to ``name``, or the whole short list, or nothing."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    if close:
        return f" (did you mean {close[0]!r}?)"
    return f" (one of: {', '.join(names)})" if 0 < len(names) <= 24 else ""
