"""What was seen and done in an episode, read strictly from JSON, NPZ or arrays."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from ...core import DataError, nearest
from ..files import beginning, is_source, read_bytes
from ..table import from_npy
from .bins import BINS

FIELDS = ("observations", "actions", "text")
_ONE = "observation"  # the name of observations that have none
_ZIP = b"PK\3\4"

Numbers = Float[np.ndarray, "t k"] | Int[np.ndarray, "t k"]


@dataclass(frozen=True)
class Trajectory:
    """``observations`` by name and ``actions``, each [steps, numbers]: int64 is discrete, float32 continuous.
    ``text`` is said before. There are as many actions as steps, or, while the next is to be chosen, one less.
    """

    observations: Mapping[str, Numbers] = field(default_factory=dict)
    actions: Numbers | None = None
    text: str | None = None

    @property
    def steps(self) -> int:
        """How many there are."""
        return len(next(iter(self.observations.values()), ()))

    @property
    def acted(self) -> int:
        """In how many steps something was done."""
        return 0 if self.actions is None else len(self.actions)


def read_trajectory(source: Any, limit: int) -> Trajectory:
    """A JSON or NPZ file of at most ``limit`` bytes, unpacked too, by its path or content; or the same as a dict.

    ``observations`` are one list or array [steps, ...] or several by name, ``actions`` one, ``text`` a string. In
    NPZ, all arrays but ``actions`` are observations. Whole numbers (without a point in JSON) are discrete, others
    continuous; never both in one list. Raises DataError naming the field.
    """
    if isinstance(source, Trajectory):
        return source
    if is_source(source):
        content = read_bytes(source, limit)
        source = _unpacked(content, limit) if content.startswith(_ZIP) else _parsed(content)
    if not isinstance(source, Mapping):
        raise DataError(f"expected an object with {', '.join(FIELDS)}, found {type(source).__name__}")
    for name in source:
        if name not in FIELDS:
            raise DataError(f"unknown field{nearest(str(name), FIELDS)}", field=str(name))
    seen, done, text = (source.get(name) for name in FIELDS)
    if text is not None and not (isinstance(text, str) and text.strip()):
        raise DataError(f"expected text that is not blank, found {text!r:.80}", field="text")
    if seen is None:
        seen = {}
    if not isinstance(seen, Mapping):
        seen = {_ONE: seen}
    return Trajectory(
        {str(name): _numbers(value, f"observations.{name}") for name, value in seen.items()},
        None if done is None or len(done) == 0 else _numbers(done, "actions"),
        text,
    )


def check_trajectory(found: Trajectory) -> None:
    """Raise DataError for an episode that is empty or not as long in all its parts, and for numbers that are no tokens:
    not finite, discrete ones beyond 1,023, continuous actions beyond 1.
    """
    if not found.observations and found.actions is not None:
        raise DataError("expected observations beside the actions, found none", field="observations")
    if not found.steps and found.text is None:
        raise DataError("the episode is empty: expected observations and actions, or a text")
    for name, values in found.observations.items():
        if len(values) != found.steps:
            first = next(iter(found.observations))
            raise DataError(
                f"expected {found.steps} steps as in {first!r}, found {len(values)}",
                field=f"observations.{name}",
            )
        _check_numbers(values, f"observations.{name}", largest=np.inf)
    if found.steps and found.acted not in (found.steps, found.steps - 1):
        raise DataError(
            f"expected an action for each of {found.steps} steps, found {found.acted}", field="actions"
        )
    if found.actions is not None:
        _check_numbers(found.actions, "actions", largest=1.0)


def _check_numbers(values: Numbers, field: str, largest: float) -> None:
    if values.shape[1] == 0:
        raise DataError("expected at least one number a step, found none", field=field)
    discrete = values.dtype.kind == "i"
    fits = (values >= 0) & (values < BINS) if discrete else np.isfinite(values) & (np.abs(values) <= largest)
    if not fits.all():
        step, place = np.argwhere(~fits)[0]
        reach = "finite numbers" if largest == np.inf else f"numbers from {-largest:g} to {largest:g}"
        wanted = f"whole numbers from 0 to {BINS - 1} (others need a point)" if discrete else reach
        raise DataError(f"expected {wanted}, found {values[step, place]:g}", field=f"{field}[{step}]")


def _numbers(value: Any, field: str) -> Numbers:
    """[steps, numbers], what a step has in row-major order."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if not isinstance(value, np.ndarray):
        kinds = {_kind(one) for one in _flat(value)}
        if len(kinds) != 1 or None in kinds:
            found = "nothing" if not kinds else "both" if None not in kinds else "something else"
            raise DataError(f"expected numbers, all whole or all with a point, found {found}", field=field)
        try:
            value = np.array(value)
        except ValueError:
            raise DataError("the steps do not have equally many numbers", field=field) from None
    if value.ndim == 0 or _kind(value) is None:
        raise DataError(
            f"expected numbers [steps, ...], found {value.dtype} of the shape {list(value.shape)}",
            field=field,
        )
    values = value.reshape(len(value), -1) if len(value) else value.reshape(0, 1)
    if value.dtype.kind == "f":
        with np.errstate(over="ignore"):  # becomes infinite, which is refused
            return values.astype(np.float32)
    return values.astype(np.int64)


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for item in value:
            yield from _flat(item)
    else:
        yield value


def _kind(value: Any) -> str | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return "i" if isinstance(value, int) else "f"
    found = value.dtype.kind if isinstance(value, np.ndarray | np.generic) else ""
    return {"i": "i", "u": "i", "f": "f"}.get(found)


def _parsed(content: bytes) -> Any:
    try:
        return json.loads(content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse)
    except UnicodeDecodeError:
        raise DataError(f"expected an episode as JSON or NPZ: {beginning(content)}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"not strict JSON: {str(error)[:120]}") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field is given twice")
    return found


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _unpacked(content: bytes, limit: int) -> dict[str, Any]:
    """The arrays of an NPZ file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > limit:
                raise DataError(f"the file unpacks to {total:,} bytes, the limit is {limit:,}")
            arrays = {
                member.filename.removesuffix(".npy"): from_npy(archive.read(member)) for member in members
            }
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"not an NPZ file that can be read: {str(error)[:120]}") from None
    return {"actions": arrays.pop("actions", None), "observations": arrays}
