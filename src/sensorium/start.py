"""What a run begins from: a recipe with fresh weights, a public checkpoint, an earlier model, or towers of several."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from .core import ConfigError, Spec
from .core.state import saved_tensors
from .model import import_code, load, place_of, read_spec
from .public import is_public, read_public
from .recipes import find
from .recipes.dual import dual
from .training.checkpoint import check_names
from .training.rules import Rule
from .weights.family import Folder


@dataclass(frozen=True)
class Start:
    """A System's Spec and the user's ``modules`` that it may name.

    ``weights`` are the models to take weights from, by the part of the network they fill ("" is all of it);
    ``files`` are those that hold what a modality learnt.
    """

    spec: Spec
    modules: set[str] = field(default_factory=set)
    weights: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)

    def fill(self, network: nn.Module) -> None:
        """Put the weights into a fresh network. Raises CheckpointError for a part that is not as it is there."""
        for place, source in self.weights.items():
            part, donor = network.get_submodule(place), load(source).network.get_submodule(place)
            taken = saved_tensors(donor)
            check_names(saved_tensors(part), taken, source)
            part.load_state_dict(part.state_dict() | taken)


def resolve(
    typed: str,
    overrides: Sequence[str] = (),
    *,
    towers: Mapping[str, str] | None = None,
    lock: Sequence[str] = (),
) -> Start:
    """What a user typed as a recipe, with overrides.

    ``unified``, ``unified:small``, ``my_file.py:my_recipe`` and ``pkg.module:my_recipe:small`` are recipes;
    a directory or hub id is a model to go on from (``./clip`` where its name is that of a recipe); ``dual`` pairs the
    ``towers`` of several of these. ``lock`` are patterns of parameters that do not learn. Raises ConfigError for
    anything else, and for settings and towers that are not there.
    """
    first, _, rest = typed.partition(":")
    python = first.endswith(".py")
    if typed == "dual":
        start = _paired(towers or {})
    elif towers:
        raise ConfigError(
            f"{typed} has towers of its own: only dual takes {', '.join(f'--{n}' for n in towers)}"
        )
    elif first in find.names():
        start = Start(find.builtin(typed))
    elif Path(typed).is_dir() or ("/" in typed and not python):
        start = _model(typed)
    elif python or "." in first:
        function, _, size = rest.partition(":")
        if not function:
            raise ConfigError(f"{typed}: which recipe of the file? write {first}:my_recipe")
        modules = import_code([first])
        start = Start(find.recipe(sys.modules[next(iter(modules))], function, size or None, typed), modules)
    else:
        start = Start(find.builtin(typed))
    spec = start.spec
    for assignment in overrides:
        spec = spec.override(assignment)
    if lock:
        rules = [
            *spec.training.arguments.get("rules", []),
            *(Spec(Rule, pattern=pattern, rate=0.0) for pattern in lock),
        ]
        spec = spec.set("training.rules", rules)
    return Start(spec, start.modules | outside(spec), start.weights, start.files)


def outside(spec: Spec) -> set[str]:
    """The modules outside this package whose classes a Spec names. A recipe that the user typed may name them."""
    package = __name__.partition(".")[0]
    modules = {name.partition(":")[0] for name in _classes(spec.to_json())}
    return {module for module in modules if module.partition(".")[0] != package}


def _classes(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if "class" in value:
            yield value["class"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _classes(item)


def _model(typed: str) -> Start:
    """All of a model that there is."""
    directory = place_of(typed)
    spec = _spec(directory)
    return Start(spec, weights={"": typed}, files=dict.fromkeys(spec.modalities, typed))


def _spec(directory: Path) -> Spec:
    return read_public(Folder(directory)) if is_public(directory) else read_spec(directory)


def _paired(towers: Mapping[str, str]) -> Start:
    """One tower of each model."""
    if len(towers) < 2:
        raise ConfigError("dual needs two towers or more, for example --image MODEL --text MODEL")
    parts, modalities = {}, {}
    for name, typed in towers.items():
        spec = _spec(place_of(typed))
        found = spec.model.arguments.get("towers") or {}
        if name in spec.modalities and "tower" in spec.model.arguments:
            found = {name: spec.model.tower}
        if name not in found:
            raise ConfigError(
                f"--{name} {typed}: that model has no {name} tower (it has: {', '.join(found) or 'none'})"
            )
        parts[name], modalities[name] = found[name], spec.modalities[name]
    return Start(
        dual(parts, modalities),
        weights={f"towers.{name}": typed for name, typed in towers.items()},
        files=dict(towers),
    )


def load_files(modalities: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Let the modalities read what the models that a run begins from had learnt."""
    for name, typed in files.items():
        directory = place_of(typed)
        own = directory / "modalities"
        modalities[name].load(own if own.is_dir() else directory)
