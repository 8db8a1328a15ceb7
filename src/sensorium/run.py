"""A run: from a recipe and a user's data to a trained model in a directory, with what others read there.

``spec.json`` (everything needed to build the model again), ``modalities/`` (tokenizer, statistics), ``data.json``,
``facts.json``, ``log.jsonl``, ``quarantine.jsonl``, ``checkpoints/``.
"""

from __future__ import annotations

import json
import platform
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console
from torch import nn

from .core import ConfigError, DataError, Modality, Sample, Spec
from .core.system import System
from .data.sources.open import open_source, open_sources, split_weight
from .data.sources.source import Source
from .evaluation import Answer, Caption, Reconstruct, Retrieval, Task, evaluate
from .evaluation.report import write_report
from .evaluation.report.folder import VALIDATION
from .modalities import Text, standard
from .modalities.chat.conversation import Conversation
from .modalities.transcripts import Transcripts
from .model import Model, build_modalities, load, read_spec, save_modalities, write_spec
from .nn.architectures.network import Network
from .nn.architectures.taught import Taught
from .nn.architectures.towers import Towers
from .nn.encoders.vectors import Vectors
from .nn.skeleton import Skeleton
from .start import Start, load_files, resolve
from .training.checkpoint import Checkpoints
from .training.distributed import World
from .training.lock import locked
from .training.settings import Duration
from .training.trainer import Outcome, Trainer

_FITTED = 2_000  # samples from which preprocessing learns its statistics
_FITTED_TEXTS = 200_000
_VALIDATED = 128


@dataclass(frozen=True)
class Plan:
    """What is to be trained on what: a recipe as typed, overrides, data as ``path`` or ``path@weight``, and where.

    ``towers``, ``trunk``, ``connector``, ``learn`` and ``lock`` are those of ``sensorium.start.resolve``;
    ``teacher`` is a model that is asked about every batch, for objectives that compare with one.
    ``duration`` is one of steps, epochs or minutes, in place of the recipe's. Validation is ``validation``, or the
    samples of the data whose split is ``validation``.
    """

    recipe: str
    data: Sequence[str]
    out: Path
    overrides: Sequence[str] = ()
    duration: Mapping[str, float | None] = field(default_factory=dict)
    validation: str | None = None
    towers: Mapping[str, str] = field(default_factory=dict)
    lock: Sequence[str] = ()
    trunk: str | None = None
    connector: str | None = None
    learn: str | None = None
    teacher: str | None = None


@dataclass(frozen=True)
class Ready:
    """A plan whose recipe and data were found."""

    start: Start
    sources: list[tuple[Source, float]]
    held_out: Source | None


def look_up(plan: Plan) -> Ready:
    """Find the recipe and open the data. Raises ConfigError or DataError for a user's mistake."""
    start = resolve(
        plan.recipe,
        plan.overrides,
        towers=plan.towers,
        trunk=plan.trunk,
        connector=plan.connector,
        learn=plan.learn,
        lock=plan.lock,
    )
    spec = start.spec
    if given := {name: value for name, value in plan.duration.items() if value is not None}:
        spec = spec.set("training.duration", Spec(Duration, **given))
    spec.training.build()
    known = standard() | {name: part.build() for name, part in spec.modalities.items()}
    sources = open_sources(plan.data, modalities=known, split="train")
    return Ready(replace(start, spec=spec), sources, _validation(plan.data, plan.validation, known))


def prepare(plan: Plan, console: Console) -> Ready:
    """Make the run's folder: what the data decides, and the final Spec. Does nothing where it is there already.

    A run that has begun keeps its Spec and data: else ConfigError names the first difference. Only the
    duration may change.
    """
    ready = look_up(plan)
    with locked(plan.out):
        _prepare(plan.out, ready, console)
    return ready


def train(plan: Plan, *, world: World | None = None, console: Console | None = None) -> Outcome:
    """Train, or go on with what was begun in the same folder. Every rank calls this."""
    world = world or World()
    console = console or Console(stderr=True, quiet=not world.first)
    out = plan.out
    ready = prepare(plan, console) if world.first else None
    world.barrier()
    ready = ready or look_up(plan)
    with locked(out) if world.first else nullcontext():
        spec = read_spec(out, ready.start.modules).set(
            "training.duration", ready.start.spec.training.duration
        )
        system: System = spec.build()
        modalities = build_modalities(system, out / "modalities")
        training = system.training.build()
        torch.manual_seed(training.seed)
        network = system.model.build()
        if not Checkpoints(out / "checkpoints").steps():
            ready.start.fill(network)
        if world.first:
            _write_facts(out, network, world)
        # A sharded model cannot be used by one rank alone, so FSDP2 runs do without looks on the way.
        looks = world.first and (world.size == 1 or training.distribution == "ddp")
        held_out = ready.held_out if looks else None
        trainer = Trainer(
            run=out,
            model=network,
            modalities=modalities,
            objectives={name: part.build() for name, part in system.objectives.items()},
            contrastive=system.contrastive.build() if system.contrastive is not None else None,
            sources=ready.sources,
            training=training,
            world=world,
            validate=_validate(out, modalities, spec, held_out) if held_out is not None else None,
            taught=_taught(network, plan) if plan.teacher is not None else None,
            console=console,
        )
        return trainer.run()


def _taught(network: Network, plan: Plan) -> Taught:
    """The network beside its teacher, which must write in the same vocabulary."""
    teacher = load(cast(str, plan.teacher)).network
    mine, other = (getattr(getattr(one, "decoder", None), "vocabulary", None) for one in (network, teacher))
    if mine != other:
        raise ConfigError(
            f"--teacher {plan.teacher}: has a vocabulary of {other} tokens, the model of {mine}"
        )
    return Taught(student=network, teacher=teacher)


def _validation(data: Sequence[str], given: str | None, known: Mapping[str, Modality]) -> Source | None:
    if given is not None:
        return open_source(given, modalities=known)
    for path in data:
        try:
            return open_source(split_weight(path)[0], modalities=known, split="validation")
        except ConfigError:
            continue
    return None


def _prepare(out: Path, ready: Ready, console: Console) -> None:
    sources = ready.sources
    asked = {
        "spec": ready.start.spec.set("training.duration", Spec(Duration, epochs=1)).to_json(),
        "weights": dict(ready.start.weights),
        "data": [[source.name, weight, len(source)] for source, weight in sources],
    }
    if (out / "spec.json").is_file():
        _same(json.loads((out / "asked.json").read_text()), json.loads(json.dumps(asked)), str(out))
        return
    combinations = [
        Counter("+".join(sample.modalities()) for sample in _readable(source)) for source, _ in sources
    ]
    present = {name for counts in combinations for combination in counts for name in combination.split("+")}
    spec = only_present(ready.start.spec, present, ready.start.files)
    modalities = build_modalities(spec.build(), None)
    load_files(modalities, ready.start.files)
    for name, modality in modalities.items():
        if name not in ready.start.files:
            modality.fit(_raws(name, modality, [source for source, _ in sources]))
    final = follow_data(spec, modalities)
    with Skeleton():  # parts that do not fit are found before anything is written
        final.model.build()
    save_modalities(modalities, out / "modalities")
    held_out = ready.held_out
    record = {
        "sources": [
            {"name": source.name, "weight": weight, "samples": len(source), "combinations": dict(counts)}
            for (source, weight), counts in zip(sources, combinations, strict=True)
        ],
        "validation": {"name": held_out.name, "samples": len(held_out)} if held_out is not None else None,
        "problems": [problem.record() for source, _ in sources for problem in source.problems[:100]],
    }
    (out / "data.json").write_text(json.dumps(record, indent=1))
    (out / "asked.json").write_text(json.dumps(asked, indent=1))
    write_spec(out, final)
    broken = sum(len(source.problems) for source, _ in sources)
    total = sum(len(source) for source, _ in sources)
    console.print(
        f"{total} samples with {', '.join(sorted(present))}"
        + (f"; {broken} unusable lines" if broken else "")
    )


def _readable(source: Source) -> Iterator[Sample]:
    for index in range(len(source)):
        try:
            yield source[index]
        except DataError:
            continue


def _raws(name: str, modality: Modality, sources: Sequence[Source]) -> Iterator[Any]:
    """Decoded values of one modality: all texts, and the media of the first samples of each source."""
    for source in sources:
        samples = islice(_readable(source), _FITTED_TEXTS if modality.inline else _FITTED)
        for sample in samples:
            for segment in sample.segments:
                if segment.modality == name:
                    try:
                        yield modality.load_value(segment.value)
                    except DataError:
                        continue  # it will be met, named and counted in training


def only_present(spec: Spec, present: Collection[str], given: Collection[str] = ()) -> Spec:
    """The System without the encoders and fresh towers that the data does not need; those ``given`` stay as they are.

    Raises ConfigError if there is nothing to learn, or the data has nothing that the model reads or can contrast.
    """
    kept = {name: part for name, part in spec.modalities.items() if name in present}
    if spec.contrastive is None and not spec.objectives:
        raise ConfigError(
            "this recipe has nothing to learn, neither objectives nor contrastive: "
            "its tower can learn beside another, by the recipe dual"
        )
    needed = 2 if spec.contrastive is not None and not spec.objectives else 1
    if len(kept) < needed:
        wants = (
            " and ".join(spec.modalities) if needed == len(spec.modalities) else ", ".join(spec.modalities)
        )
        raise ConfigError(f"the data has {', '.join(sorted(present))}; the recipe reads {wants}")
    if spec.model.cls is Towers and spec.family is None and not given:
        towers, projections = (
            {name: part for name, part in parts.items() if name in kept}
            for parts in (spec.model.towers, spec.model.projections)
        )
        language = spec.model.language if spec.model.language in kept else None
        network = spec.model.replace(towers=towers, projections=projections, language=language)
        return spec.replace(modalities=kept, model=network)
    if "encoders" not in spec.model.arguments:
        return spec
    encoders = {
        name: part
        for name, part in spec.model.encoders.items()
        if name in kept or name == spec.model.language
    }
    if spec.model.language not in kept:
        kept[spec.model.language] = spec.modalities[spec.model.language]
    return spec.set("modalities", kept).set("model.encoders", encoders)


def follow_data(spec: Spec, modalities: Mapping[str, Modality]) -> Spec:
    """The System whose encoders have the sizes that preparation gives: channels, vocabulary."""
    for name, encoder in spec.model.arguments.get("encoders", {}).items():
        if "stem" in encoder.arguments:
            path = f"model.encoders.{name}.stem.channels"
            spec = spec.set(path, modalities[name].blank().shape[-1])
    for name, tower in (spec.model.arguments.get("towers") or {}).items():
        if tower.cls is Vectors and name in modalities:
            spec = spec.set(f"model.towers.{name}.channels", modalities[name].blank().shape[-1])
    learnt = [modality for modality in modalities.values() if isinstance(modality, Text | Transcripts)]
    for path in [path for path in spec.paths() if re.fullmatch(r"model\..*\bvocabulary", path)]:
        for words in learnt:
            spec = spec.set(path, words.vocabulary_size)
    for modality in modalities.values():
        if isinstance(modality, Conversation):
            spec = _follow_words(spec, modality)
    return spec


def _follow_words(spec: Spec, words: Conversation) -> Spec:
    """The System whose language model has a row for every token, and whose placeholders are those of its words."""
    size, decoder = words.vocabulary_size, spec.model.decoder
    if words.vocabulary is None:  # a public table may have rows to spare
        size = max(size, decoder.embedding.vocabulary)
    for part in ("embedding", "head"):
        if decoder.arguments.get(part) is not None:
            spec = spec.set(f"model.decoder.{part}.vocabulary", size)
    return spec.set("model.placeholders", words.places) if words.placeholders else spec


def _same(before: Any, now: Any, where: str, path: str = "") -> None:
    """Raise ConfigError naming the first setting that differs from when the run began."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in sorted(before.keys() | now.keys()):
            _same(before.get(name), now.get(name), where, f"{path}.{name}" if path else name)
    elif before != now:
        raise ConfigError(
            f"{where} was begun with {path} = {before!r}, now it is {now!r}: use the same recipe and settings "
            f"to go on, or choose another --out"
        )


def _validate(
    out: Path, modalities: Mapping[str, Modality], spec: Spec, source: Source
) -> Callable[[nn.Module], dict[str, Any]]:
    """Figures and a few examples on validation data, for the log; the report shows them with their pictures."""

    def validate(network: nn.Module) -> dict[str, Any]:
        model = Model(cast(Network, network), modalities, spec)
        tasks: list[Task] = [Retrieval(limit=_VALIDATED), Reconstruct(limit=8)]
        if model.writes:
            tasks += [Caption(limit=8, max_new_tokens=32), Answer(limit=16)]
        found = evaluate(model, source, name=VALIDATION, tasks=tasks, limit=_VALIDATED, gallery=12)
        found.write(out / "evaluation" / VALIDATION)
        write_report(out)
        return {
            "figures": {name: value for name, value in found.flat().items() if name.endswith(" R@1")},
            "examples": [
                _example(record) for record in found.records if record["task"] in ("caption", "answer")
            ][:12],
        }

    return validate


def _example(record: Mapping[str, Any]) -> dict[str, str]:
    found = record["found"]
    if isinstance(found, dict):  # a caption from each input: the first is from all of them
        found = next((one["text"] for one in found.values()), "")
    return {
        "key": record["key"],
        "prompt": record.get("prompt", ""),
        "expected": record["expected"],
        "found": found,
    }


def _write_facts(out: Path, network: nn.Module, world: World) -> None:
    facts = {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads x {world.size}, {world.device.type}",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    (out / "facts.json").write_text(json.dumps(facts, indent=1))
