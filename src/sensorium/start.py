"""What a run begins from: a recipe with fresh weights, a public checkpoint, an earlier model, or towers of several."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .core import ConfigError, Spec, nearest
from .core.state import saved_tensors
from .model import import_code, load, place_of, read_spec
from .objectives import NextToken, Preferences, SoftTokens
from .public import is_public, read_public
from .recipes import find
from .recipes.dual import dual
from .recipes.vlm import vlm
from .training.checkpoint import check_names
from .training.rules import Rule
from .weights.family import Folder

#: The tables of words, which grow when a vocabulary gets new tokens.
_TABLES = re.compile(r"(embedding\.token|head)\.(weight|bias)$")


#: What a language model can learn from: the next words of answers; pairs of answers, compared with a teacher (itself as
#: it was); answers and what a teacher makes of them.
LESSONS = {
    "answers": {"language": Spec(NextToken)},
    "preferences": {"preferences": Spec(Preferences)},
    "teacher": {"language": Spec(NextToken, weight=0.5), "distilled": Spec(SoftTokens, weight=0.5)},
}


@dataclass(frozen=True)
class Start:
    """A System's Spec and the user's ``modules`` that it may name.

    ``weights`` are the models to take weights from, by the part of the network they fill ("" is all of it), and
    ``origins`` the part there that they come from, where it has another name. ``files`` are those that hold what a
    modality learnt.
    """

    spec: Spec
    modules: set[str] = field(default_factory=set)
    weights: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)

    def fill(self, network: nn.Module) -> None:
        """Put the weights into a fresh network. Raises CheckpointError for a part that is not as it is there."""
        for place, source in self.weights.items():
            part = network.get_submodule(place)
            donor = load(source).network.get_submodule(self.origins.get(place, place))
            wanted, taken = saved_tensors(part), saved_tensors(donor)
            taken = {name: _with_new_tokens(name, one, wanted) for name, one in taken.items()}
            check_names(wanted, taken, source)
            part.load_state_dict(part.state_dict() | taken)


def resolve(
    typed: str,
    overrides: Sequence[str] = (),
    *,
    towers: Mapping[str, str] | None = None,
    trunk: str | None = None,
    connector: str | None = None,
    learn: str | None = None,
    lock: Sequence[str] = (),
) -> Start:
    """What a user typed as a recipe, with overrides.

    ``unified``, ``unified:small``, ``my_file.py:my_recipe`` and ``pkg.module:my_recipe:small`` are recipes;
    a directory or hub id is a model to go on from (``./clip`` where its name is that of a recipe); ``dual`` pairs the
    ``towers`` of several of these, ``vlm`` joins them to a ``trunk`` by a ``connector``. ``learn`` is what a language
    model learns from, in place of what the recipe says: see ``LESSONS``. ``lock`` are patterns of parameters that do
    not learn. Raises ConfigError for anything else, and for settings and towers that are not there.
    """
    first, _, rest = typed.partition(":")
    python = first.endswith(".py")
    if typed == "vlm":
        start = _joined(towers or {}, trunk, connector)
    elif trunk is not None or connector is not None:
        raise ConfigError(f"{typed} has a trunk of its own: only vlm takes --trunk and --connector")
    elif typed == "dual":
        start = _paired(towers or {})
    elif towers:
        raise ConfigError(
            f"{typed} has towers of its own: only dual and vlm take {', '.join(f'--{n}' for n in towers)}"
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
    spec = start.spec if learn is None else _learning(start.spec, learn)
    for assignment in overrides:
        spec = spec.override(assignment)
    if lock:
        rules = [
            *spec.training.arguments.get("rules", []),
            *(Spec(Rule, pattern=pattern, rate=0.0) for pattern in lock),
        ]
        spec = spec.set("training.rules", rules)
    return replace(start, spec=spec, modules=start.modules | outside(spec))


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


def _learning(spec: Spec, learn: str) -> Spec:
    """A System with other objectives."""
    if learn not in LESSONS:
        raise ConfigError(f"--learn {learn}: expected one of {', '.join(LESSONS)}{nearest(learn, LESSONS)}")
    if "decoder" not in spec.model.arguments:
        raise ConfigError(f"--learn {learn}: this recipe has no language model")
    return spec.replace(objectives=dict(LESSONS[learn]), contrastive=None)


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
    found = {name: _tower(name, typed) for name, typed in towers.items()}
    return Start(
        dual(
            towers={name: tower for name, (tower, _) in found.items()},
            modalities={name: modality for name, (_, modality) in found.items()},
        ),
        weights={f"towers.{name}": typed for name, typed in towers.items()},
        files=dict(towers),
    )


def _joined(towers: Mapping[str, str], trunk: str | None, connector: str | None) -> Start:
    """The towers of several models before the language model of another."""
    if trunk is None or not towers:
        raise ConfigError(
            "vlm needs towers and a language model: --image MODEL --trunk MODEL --connector mlp"
        )
    spec = _spec(place_of(trunk))
    if "decoder" not in spec.model.arguments:
        raise ConfigError(f"--trunk {trunk}: that model has no language model that could read other media")
    found = {name: _tower(name, typed) for name, typed in towers.items()}
    joined = vlm(spec, found, connector or "mlp")
    places = {
        name: f"towers.{name}" + (".tower" if "tower" in part.arguments else "")
        for name, part in joined.model.towers.items()
    }
    return Start(
        joined,
        weights={"decoder": trunk} | {places[name]: typed for name, typed in towers.items()},
        origins={place: f"towers.{name}" for name, place in places.items()},
        files={**towers, joined.model.language: trunk},
    )


def _tower(name: str, typed: str) -> tuple[Spec, Spec]:
    """The tower of a model for one modality, and the modality."""
    spec = _spec(place_of(typed))
    found = spec.model.arguments.get("towers") or {}
    if name in spec.modalities and "tower" in spec.model.arguments:
        found = {name: spec.model.tower}
    if name not in found:
        raise ConfigError(
            f"--{name} {typed}: that model has no {name} tower (it has: {', '.join(found) or 'none'})"
        )
    return found[name], spec.modalities[name]


def _with_new_tokens(name: str, tensor: Tensor, wanted: Mapping[str, Tensor]) -> Tensor:
    """A table of words with a row more for each token that is new: the mean of all others (Hewitt 2021)."""
    shape = wanted[name].shape if name in wanted else tensor.shape
    if not _TABLES.search(name) or shape[1:] != tensor.shape[1:] or shape[0] <= tensor.shape[0]:
        return tensor
    new = tensor.mean(0, keepdim=True).expand(shape[0] - tensor.shape[0], *tensor.shape[1:])
    return torch.cat([tensor, new])


def load_files(modalities: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Let the modalities read what the models that a run begins from had learnt."""
    for name, typed in files.items():
        directory = place_of(typed)
        own = directory / "modalities"
        modalities[name].load(own if own.is_dir() else directory)
