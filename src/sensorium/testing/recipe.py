"""Whether a recipe holds together: saved and read back, trained, divided, loaded and asked."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from ..core import ConfigError, Outputs, Spec
from ..model import Model, load
from ..start import outside
from ..weights.family import TRANSFORMERS
from .claims import claim, close
from .material import Material, Recipe, Samples, ready

#: Numbers of a batch, which differ in another one.
_NUMBERED = ("owner", "preferences.pair")


def check_recipe(recipe: Recipe, samples: Samples, *, steps: int = 3) -> None:
    """Raise AssertionError for the first thing that a System must be able to do and this one cannot.

    ``recipe`` is a System's Spec or a function that gives one, in its smallest size; ``samples`` are from 2 to 16
    of its data, or a source, of which the first 16 are taken. Trains for ``steps`` steps on them. Raises
    ConfigError if there are fewer samples or steps, or if the recipe's parts do not fit each other.
    """
    if steps < 1:
        raise ConfigError(f"steps must be at least 1, found {steps}")
    material = ready(recipe, samples)
    _check_json(material.spec)
    _check_overrides(material.spec)
    _check_alone(material)
    material.training.optimizer.make(material.network.named_parameters(), material.training.rules)
    _check_gradients(material)
    _check_learning(material, steps)
    _check_parts(material)
    _check_saving(material)
    _check_writing(material)


def _check_json(spec: Spec) -> None:
    """The Spec is the same after having been saved and read."""
    record = spec.to_json()
    try:
        again = Spec.from_json(json.loads(json.dumps(record)), modules=outside(spec))
    except ConfigError as error:
        raise AssertionError(
            f"the saved Spec cannot be read back ({error}): define its classes at the top of a module"
        ) from error
    claim(
        again == spec,
        "the Spec is another one after saving and reading: use JSON values only (text as keys, no nan) in its settings",
    )


def _check_overrides(spec: Spec) -> None:
    """Every setting can be given on the command line; giving it the value it has changes nothing."""
    for path, value in _settings(spec):
        assignment = f"{path}={json.dumps(value)}"
        try:
            found = dict(_settings(spec.override(assignment)))[path]
        except ConfigError as error:
            raise AssertionError(
                f"the setting {assignment} is refused: {error}: let the annotation of each constructor argument allow "
                "its default and what the recipe gives"
            ) from error
        claim(found == value, f"the setting {assignment} is not taken up: found {found!r} there")


def _check_alone(material: Material) -> None:
    """Whatever the model returns for a sample is the same alone and in a batch."""
    with torch.no_grad():
        whole = _tensors(material.network(material.batch(material.samples)))
        alone = [_tensors(material.network(material.batch([sample]))) for sample in material.samples]
    held = {id(parameter) for parameter in material.network.parameters()}
    for name, expected in whole.items():
        if name.endswith(_NUMBERED) or expected.ndim == 0 or id(expected) in held:
            continue
        found = torch.cat([one[name] for one in alone if name in one])
        claim(
            close(found, expected),
            f"{name} differs for samples alone and in a batch: let no part depend on padding or on neighbours "
            "(check each encoder with check_encoder; use no batch norm)",
        )


def _check_gradients(material: Material) -> None:
    """Every parameter that is not frozen gets a gradient, whichever modalities a batch lacks."""
    for name in material.modalities:
        if not (samples := material.only(name)):
            continue
        missing = [n for n, g in material.gradients([material.batch(samples)]).items() if g is None]
        claim(
            not missing,
            f"with a batch of {name!r} only, {', '.join(missing[:4])} gets no gradient, and training on several "
            "processes would hang: run every part on streams of no rows too, or freeze what is not used by a rule",
        )


def _check_learning(material: Material, steps: int) -> None:
    """The loss is finite and falls on a batch that it sees again and again."""
    training, network = material.training, material.network
    optimizer = training.optimizer.make(network.named_parameters(), training.rules)
    batch = material.batch(material.samples)
    losses = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network.train()
        for _ in range(steps + 1):
            losses.append(float(material.step([batch])[0]))
            nn.utils.clip_grad_norm_(network.parameters(), training.clip)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        network.eval()
    shown = ", ".join(f"{loss:.4g}" for loss in losses)
    claim(
        all(map(math.isfinite, losses)),
        f"the loss is not finite ({shown}): look for divisions by zero, or lower optimizer.lr",
    )
    claim(
        min(losses[1:]) < losses[0],
        f"the loss does not fall in {steps} steps on the same batch ({shown}): check the sign of each objective, what "
        "the rules freeze, and optimizer.lr",
    )


def _check_parts(material: Material) -> None:
    """A batch in two parts gives the gradient of the whole."""
    middle = (len(material.samples) + 1) // 2
    parts = [material.samples[:middle], material.samples[middle:]]
    whole = material.gradients([material.batch(material.samples)])
    divided = material.gradients([material.batch(part) for part in parts])
    scale = max(float(g.abs().max()) for g in whole.values() if g is not None and g.numel())
    for name, gradient in whole.items():
        other = divided[name]
        if gradient is None or other is None:
            continue
        claim(
            float((gradient - other).abs().max()) <= 1e-3 * scale,
            f"the gradient of {name} differs for one batch and for the same batch in two parts: check each objective "
            "with check_objective",
        )


def _check_saving(material: Material) -> None:
    """A saved model, loaded, gives the same embeddings; up to rounding in a public layout, where what is loaded lies
    otherwise in memory.
    """
    model = material.model()
    uses = _uses(material)
    for layout, same in (
        ("sensorium", torch.equal),
        *([(TRANSFORMERS, close)] if material.spec.family else []),
    ):
        with TemporaryDirectory() as folder:
            model.save_pretrained(folder, layout=layout)
            again = load(folder, code=outside(material.spec))
        for name, use in uses.items():
            claim(
                same(use(model), use(again)),
                f"{name} are not the same after save_pretrained and load: save what fit learnt in a file of the "
                "modality's own name, and keep what is learnt in parameters or persistent buffers",
            )


def _uses(material: Material) -> dict[str, Callable[[Model], Tensor]]:
    """What a model is used for, by what it gives: the embeddings of each modality that it reads, or how likely a
    language model finds what was answered.
    """
    if material.composes:
        told = [one for one in material.samples if any(segment.target for segment in one.segments)]
        return {"log-probabilities": lambda model: torch.cat([model.score(sample) for sample in told])}
    unread = getattr(material.network, "transcripts", None)  # learnt to be written, and never read
    given: dict[str, Any] = {
        name: [s.value for sample in material.samples if (s := sample.content(name)) is not None]
        for name in material.modalities
        if name != unread
    }
    return {
        f"embeddings of {name!r}": partial(_embedded, name=name, values=values)
        for name, values in given.items()
        if values
    }


def _embedded(model: Model, name: str, values: Any) -> Tensor:
    given: dict[str, Any] = {name: values}
    return model.embed(**given)


def _check_writing(material: Material) -> None:
    """A model that writes does so about each modality, with and without a question, and the same each time."""
    model = material.model()
    if not model.writes:
        return
    for name in material.modalities:
        if name == material.network.language:
            continue
        for segment in (part.segments[0] for part in material.only(name)):
            for prompt in (None, "what is this?"):
                media = {name: segment.value}
                first, second = (model.generate(prompt, max_new_tokens=4, **media) for _ in range(2))
                claim(first == second, f"generate({prompt!r}, {name}=...) writes {first!r}, then {second!r}")


def _settings(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every plain setting below a Spec, by its path."""
    items: Mapping[str, Any]
    if isinstance(value, Spec):
        known = inspect.signature(value.cls).parameters
        defaults = {name: parameter.default for name, parameter in known.items()}
        items = {name: value.arguments.get(name, default) for name, default in defaults.items()}
    elif isinstance(value, dict):
        items = value
    elif isinstance(value, list):
        items = {str(index): item for index, item in enumerate(value)}
    else:
        if value is None or isinstance(value, bool | int | float | str):
            yield path, value
        return
    for name, item in items.items():
        yield from _settings(item, f"{path}.{name}" if path else name)


def _tensors(value: Outputs | Any, path: str = "outputs") -> dict[str, Tensor]:
    """Every tensor inside an Outputs, by its path."""
    if isinstance(value, Tensor):
        return {path: value}
    if is_dataclass(value):
        value = {part.name: getattr(value, part.name) for part in fields(value)}
    if not isinstance(value, Mapping):
        return {}
    found = [_tensors(item, f"{path}.{name}") for name, item in value.items()]
    return {name: tensor for part in found for name, tensor in part.items()}
