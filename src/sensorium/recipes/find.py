"""From a name to a page of this folder: recipes as typed by a user, and families of public checkpoints."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType

from ..core.errors import CapabilityError, ConfigError, nearest
from ..core.spec import Spec
from ..core.system import System
from ..weights.card import Card
from ..weights.family import TRANSFORMERS, Family


def names() -> list[str]:
    """The recipes of this package: every page of this folder that holds a function of its own name."""
    package = importlib.import_module(__package__)
    found = (info.name for info in pkgutil.iter_modules(package.__path__))
    return sorted(name for name in found if name != "find" and not name.startswith("_"))


@cache
def families() -> tuple[Family, ...]:
    """The families of public checkpoints that the pages declare at module level; those of transformers first."""
    pages = [importlib.import_module(f"{__package__}.{name}") for name in names()]
    found = dict.fromkeys(one for page in pages for one in _declared(page))
    return tuple(sorted(found, key=lambda one: one.layout != TRANSFORMERS))


@cache
def cards() -> dict[str, Card]:
    """The cards of pages without public checkpoints, each a module-level ``CARD``, by the page's name."""
    pages = {name: importlib.import_module(f"{__package__}.{name}") for name in names()}
    return {name: page.CARD for name, page in pages.items() if isinstance(getattr(page, "CARD", None), Card)}


def config_files() -> set[str]:
    """The names of the config files that some family reads."""
    return {family.config_file for family in families()}


def family(name: str | None, layout: str) -> Family:
    """The family of that name in a public layout. Raises CapabilityError where there is none."""
    mine = [found for found in families() if found.name == name]
    for found in mine:
        if found.layout == layout:
            return found
    layouts = ", ".join(found.layout for found in mine) or "none"
    raise CapabilityError(
        f"{name or 'this model'} has no {layout} layout (it has: {layouts}): save it as sensorium"
    )


def _declared(page: ModuleType) -> Iterator[Family]:
    yield from (value for value in vars(page).values() if isinstance(value, Family))


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
        raise ConfigError(
            f"there is no recipe {name!r}{nearest(name, names())}; a model is a directory or a hub id such as org/name"
        )
    return recipe(importlib.import_module(f"{__package__}.{name}"), name, size or None, typed)


def _call(made: Callable[..., Spec], size: str | None, typed: str) -> Spec:
    if size is None:
        return made()
    if not inspect.signature(made).parameters:
        raise ConfigError(f"{typed}: this recipe has no sizes")
    return made(size)
