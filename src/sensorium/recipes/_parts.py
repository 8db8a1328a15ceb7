"""Parts of which public configs describe several in one: language models and encoders, found by their model type."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..core.errors import nearest
from ..core.spec import Spec
from ..weights.config import Config
from ..weights.keymap import AnyRule


@dataclass(frozen=True)
class Part:
    """One architecture that stands alone or as a part of a larger one: which ``model_types`` of a config it reads, and
    how.

    ``read`` gives the Spec of a ``LanguageModel`` or a ``Tower`` and takes its fields from a config, which may be a
    section of another; ``write`` gives the fields again. ``keys`` are rules from the names that the architecture has
    alone (``model.layers...``, ``lm_head``; ``embeddings...``, ``encoder...``) to those of that module.
    ``architecture`` is the class that others open it with, where it stands alone; ``spellings`` bring names that it
    has there in other versions into those of ``keys``.
    """

    model_types: tuple[str, ...]
    read: Callable[[Config], Spec]
    write: Callable[[Spec], dict[str, Any]]
    keys: Callable[[Spec], list[AnyRule]]
    architecture: str = ""
    spellings: Sequence[tuple[str, str]] = ()


@cache
def parts() -> dict[str, Part]:
    """Every part that a page declares at module level, by model type."""
    package = importlib.import_module(__package__)
    names = [info.name for info in pkgutil.iter_modules(package.__path__)]
    pages = [importlib.import_module(f"{__package__}.{name}") for name in names]
    found = [value for page in pages for value in vars(page).values() if isinstance(value, Part)]
    return {kind: part for part in found for kind in part.model_types}


def part_of(config: Config, otherwise: str) -> Part:
    """The part that a section of a config asks for. Raises ConfigError for one that no page reads."""
    kind = config.take("model_type", str, otherwise)
    config.ignore("model_type")  # kept, and written again
    if kind not in parts():
        raise config.error("model_type", f"no recipe reads a part {kind!r}{nearest(kind, parts())}")
    return parts()[kind]


def part_in(spec: Spec, section: str, otherwise: str) -> Part:
    """The part that a section of a System's public config was read by."""
    public = (spec.public or {}).get(section) or {}
    return parts()[public.get("model_type", otherwise)]
