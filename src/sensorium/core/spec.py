"""Spec: the only configuration. A class (or function) with arguments checked against its signature.

Nested, JSON-serialisable, saved beside the weights. A Spec read from a file may only name classes of
this package or of a module that the caller allows: a file never chooses code.
"""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import cache
from typing import Any

from .errors import ConfigError, nearest

_CLASS_KEY = "class"
_PLAIN = {"int": int, "float": float, "bool": bool, "str": str}


@cache
def _parameters(cls: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The named parameters; ``*args`` of a class without a constructor of its own are none."""
    starred = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    known = inspect.signature(cls).parameters
    return {name: parameter for name, parameter in known.items() if parameter.kind not in starred}


def _annotation(parameter: inspect.Parameter) -> str:
    return (
        parameter.annotation
        if isinstance(parameter.annotation, str)
        else inspect.formatannotation(parameter.annotation)
    )


def _name(cls: Callable[..., Any]) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


class Spec:
    """A recipe for one object: ``Spec(cls, **arguments)``, immutable; ``build()`` makes the object.

    Arguments may be plain JSON values, Specs, or lists and dicts of them. Nested Specs are built first,
    except where the constructor's parameter is annotated with ``Spec``: such a class builds its own parts.
    Reading ``spec.name`` gives an argument or its default. Raises ConfigError for an unknown argument.
    """

    def __init__(self, cls: Callable[..., Any], /, **arguments: Any) -> None:
        known = _parameters(cls)
        for name in arguments:
            if name not in known:
                raise ConfigError(f"{cls.__qualname__} has no setting {name!r}{nearest(name, known)}")
        self.cls = cls
        self.arguments: dict[str, Any] = arguments

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in ("cls", "arguments"):
            raise AttributeError(name)
        if name in self.arguments:
            return self.arguments[name]
        parameter = _parameters(self.cls).get(name)
        if parameter is None:
            raise ConfigError(
                f"{self.cls.__qualname__} has no setting {name!r}{nearest(name, _parameters(self.cls))}"
            )
        if parameter.default is inspect.Parameter.empty:
            raise ConfigError(f"{self.cls.__qualname__}: the setting {name!r} has no value yet")
        return parameter.default

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(json.dumps(self.to_json(), sort_keys=True))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        return f"Spec({self.cls.__qualname__}, {inside})" if inside else f"Spec({self.cls.__qualname__})"

    def build(self) -> Any:
        """The object, with nested Specs built first. Raises ConfigError if a required setting is missing."""
        known = _parameters(self.cls)
        missing = [
            name
            for name, parameter in known.items()
            if parameter.default is inspect.Parameter.empty and name not in self.arguments
        ]
        if missing:
            raise ConfigError(f"{self.cls.__qualname__} needs the setting {missing[0]!r}")
        values = {}
        for name, parameter in known.items():
            if name in self.arguments or isinstance(parameter.default, Spec):
                keep = re.search(r"\bSpec\b", _annotation(parameter)) is not None
                value = getattr(self, name)
                values[name] = value if keep else _build(value)
        return self.cls(**values)

    def replace(self, **arguments: Any) -> Spec:
        """A copy with some arguments changed."""
        return Spec(self.cls, **(self.arguments | arguments))

    def set(self, path: str, value: Any) -> Spec:
        """A copy with the setting at a dotted ``path`` changed; an unknown path is a ConfigError."""
        head, _, rest = path.partition(".")
        known = _parameters(self.cls)
        if head not in known:
            raise ConfigError(f"{self.cls.__qualname__} has no setting {head!r}{nearest(head, known)}")
        if rest:
            return self.replace(**{head: _set(getattr(self, head), rest, value, head)})
        return self.replace(**{head: _checked(known[head], value, self.cls.__qualname__)})

    def override(self, assignment: str) -> Spec:
        """A copy changed by ``path=value`` as typed by a user.

        The path starts at this Spec or, where that is unambiguous, at one of its direct parts: both
        ``model.trunk.depth=6`` and ``trunk.depth=6``. The value is read as JSON, else as a string.
        """
        path, equals, text = assignment.partition("=")
        if not equals:
            raise ConfigError(f"{assignment!r} is not a setting: expected path=value")
        head = path.partition(".")[0]
        if head not in _parameters(self.cls):
            parts = [
                name
                for name in _parameters(self.cls)
                if isinstance(part := self.arguments.get(name), Spec) and head in _parameters(part.cls)
            ]
            if len(parts) > 1:
                options = " or ".join(f"{part}.{path}" for part in parts)
                raise ConfigError(f"{path!r} is ambiguous: write {options}")
            if not parts:
                raise ConfigError(f"unknown setting {path!r}{nearest(path, self.paths())}")
            path = f"{parts[0]}.{path}"
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        return self.set(path, value)

    def paths(self) -> Iterator[str]:
        """Every path that ``set`` accepts, and the short form that ``override`` also accepts."""
        for path in _paths(self):
            yield path
            head, _, rest = path.partition(".")
            if rest and isinstance(self.arguments.get(head), Spec):
                yield rest

    def to_json(self) -> dict[str, Any]:
        """A JSON object that ``from_json`` turns back into an equal Spec."""
        return {_CLASS_KEY: _name(self.cls)} | {name: _dump(v) for name, v in self.arguments.items()}

    @staticmethod
    def from_json(data: Mapping[str, Any], *, modules: Collection[str] = (), where: str = "Spec") -> Spec:
        """Read ``to_json``'s object. Only this package and ``modules`` may be named.

        Raises ConfigError naming ``where`` for any other module, an unknown class or an unknown argument.
        """
        if not isinstance(data, Mapping):
            raise ConfigError(f"{where}: expected an object that names a class, found {type(data).__name__}")
        module, _, qualname = str(data.get(_CLASS_KEY, "")).partition(":")
        package, *inner = module.split(".")
        ours = (
            package == __name__.partition(".")[0] and "__main__" not in inner
        )  # importing that would run it
        if module not in modules and not ours:
            raise ConfigError(
                f"{where}: names the class {module}:{qualname}, which is outside this package; "
                f"if the file is yours and you trust it, name its module on the command line (--code FILE.py)"
            )
        try:
            found: Any = importlib.import_module(module)
            for part in qualname.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError):
            raise ConfigError(f"{where}: there is no class {module}:{qualname}") from None
        if not isinstance(found, type) or found.__module__ != module:
            raise ConfigError(f"{where}: {module}:{qualname} is not a class defined there")
        arguments = {
            name: _load(value, modules, f"{where}.{name}")
            for name, value in data.items()
            if name != _CLASS_KEY
        }
        return Spec(found, **arguments)


def _build(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.build()
    if isinstance(value, list | tuple):
        return [_build(item) for item in value]
    if isinstance(value, dict):
        return {name: _build(item) for name, item in value.items()}
    return value


def _set(part: Any, path: str, value: Any, where: str) -> Any:
    if isinstance(part, Spec):
        return part.set(path, value)
    head, _, rest = path.partition(".")
    if isinstance(part, dict):
        if head not in part:
            raise ConfigError(f"{where} has no entry {head!r}{nearest(head, part)}")
        return part | {head: _set(part[head], rest, value, f"{where}.{head}") if rest else value}
    if isinstance(part, list) and head.isdigit() and int(head) < len(part):
        item = _set(part[int(head)], rest, value, f"{where}.{head}") if rest else value
        return [*part[: int(head)], item, *part[int(head) + 1 :]]
    raise ConfigError(f"{where} is {part!r}, which has no setting {path!r}")


def _checked(parameter: inspect.Parameter, value: Any, owner: str) -> Any:
    """``value`` as the parameter's plain type, where its annotation names one."""
    options = [option.strip() for option in _annotation(parameter).split("|")]
    if any(option not in _PLAIN and option != "None" for option in options):
        return value
    if value is None and "None" in options:
        return value
    for option in options:
        kind = _PLAIN.get(option)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind is not None and isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
            return value
    raise ConfigError(f"{owner}.{parameter.name} expects {_annotation(parameter)}, found {value!r}")


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, Spec):
        items = {name: getattr(value, name, None) for name in value.arguments} | {
            name: parameter.default
            for name, parameter in _parameters(value.cls).items()
            if name not in value.arguments
        }
    elif isinstance(value, dict):
        items = value
    elif isinstance(value, list | tuple):
        items = {str(index): item for index, item in enumerate(value)}
    else:
        return
    for name, item in items.items():
        yield name
        yield from (f"{name}.{rest}" for rest in _paths(item))


def _dump(value: Any) -> Any:
    if isinstance(value, Spec):
        return value.to_json()
    if isinstance(value, list | tuple):
        return [_dump(item) for item in value]
    if isinstance(value, dict):
        return {name: _dump(item) for name, item in value.items()}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ConfigError(f"a Spec holds JSON values and Specs only, found {type(value).__name__}")


def _load(value: Any, modules: Collection[str], where: str) -> Any:
    if isinstance(value, dict):
        if _CLASS_KEY in value:
            return Spec.from_json(value, modules=modules, where=where)
        return {name: _load(item, modules, f"{where}.{name}") for name, item in value.items()}
    if isinstance(value, list):
        return [_load(item, modules, f"{where}[{index}]") for index, item in enumerate(value)]
    return value
