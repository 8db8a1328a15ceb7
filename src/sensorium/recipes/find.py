"""From what a user types, ``unified:small`` or ``my_file.py:my_recipe``, to a recipe's Spec."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from types import ModuleType

from ..core.errors import ConfigError, nearest
from ..core.spec import Spec
from ..core.system import System


def names() -> list[str]:
    """The recipes of this package: every page of this folder that holds a function of its own name."""
    package = importlib.import_module(__package__)
    return sorted(info.name for info in pkgutil.iter_modules(package.__path__) if info.name != "find")


def recipe(module: ModuleType, function: str, size: str | None, typed: str) -> Spec:
    """Call a recipe function, with a size if one was typed. Raises ConfigError if it gives no System."""
    made = getattr(module, function, None)
    if not callable(made):
        known = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        raise ConfigError(
            f"{typed}: {module.__name__} has no function {function!r}{nearest(function, known)}"
        )
    found = _call(made, size, typed)
    if not isinstance(found, Spec) or found.cls is not System:
        raise ConfigError(f"{typed}: a recipe returns a Spec of a System, found {type(found).__name__}")
    return found


def builtin(typed: str) -> Spec:
    """A recipe of this package, as ``name`` or ``name:size``."""
    name, _, size = typed.partition(":")
    if name not in names():
        raise ConfigError(f"there is no recipe {name!r}{nearest(name, names())}")
    return recipe(importlib.import_module(f"{__package__}.{name}"), name, size or None, typed)


def _call(made: Callable[..., Spec], size: str | None, typed: str) -> Spec:
    if size is None:
        return made()
    if not inspect.signature(made).parameters:
        raise ConfigError(f"{typed}: this recipe has no sizes")
    return made(size)
