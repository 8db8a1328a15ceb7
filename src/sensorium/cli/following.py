"""What several verbs do after their own work: measure, report, and say what to type next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from ..core import ConfigError

if TYPE_CHECKING:
    from ..model import Model
    from ..run import Plan


def require(data: Sequence[str]) -> None:
    if not data:
        raise ConfigError("--data is missing: where are the samples?")


def evaluate_on(
    model: Model,
    run: Path,
    data: str,
    split: str | None,
    limit: int,
    templates: Sequence[str],
    *,
    first: bool,
    console: Console,
    shots: Sequence[int] = (),
) -> None:
    """Measure the model on one data set and leave the results in the run."""
    from ..data.sources.open import open_source
    from ..data.world import judge
    from ..evaluation import (
        Alike,
        Answer,
        Caption,
        Classify,
        InContext,
        Reconstruct,
        Retrieval,
        Task,
        Withheld,
    )
    from ..evaluation import evaluate as measure
    from ..modalities import standard

    source = open_source(data, modalities=standard() | dict(model.modalities), split=split)
    tasks: list[Task] = [Retrieval(), Classify(templates=tuple(templates)), Alike(), Reconstruct()]
    if model.writes:
        tasks += [Caption(), Answer(), Withheld()]
    if shots:
        tasks.append(InContext(shots))
    name = Path(data).stem
    embedded = (Path(data).parent / "world.json").is_file()
    found = measure(model, source, name=name, tasks=tasks, limit=limit, compare=judge if embedded else None)
    found.write(run if first else run / "evaluation" / name)
    console.print(
        f"evaluated on {name}: {found.counts['evaluated']} samples, {found.seconds:.0f} s", highlight=False
    )


def report(run: Path, console: Console, data: str, writes: bool, code: Sequence[str] = ()) -> None:
    """Write the report, and say where it is and what to type next."""
    from ..evaluation.report import Command, write_report

    path, asks = shlex.quote(str(run)), _commands(run, data, code)
    ask = [Command("Ask it", asks["ask"])] if writes else []
    commands = [
        *ask,
        Command("Evaluate on other data", f"sensorium evaluate {path} --data DATA{_code(code)}"),
        Command("Embed a data set", asks["embed"]),
        Command("Use it from Python", f"python -ic 'import sensorium; model = sensorium.load(\"{run}\")'"),
    ]
    page = write_report(run, commands=commands)
    console.print(f"\nthe report:  {page}\nthe figures: {run / 'evaluation.json'}\nnext:", highlight=False)
    _print_lines(console, [command.line for command in commands])


def say_next(console: Console, plan: Plan) -> None:
    from ..data.sources.open import split_weight
    from ..model import read_spec
    from ..nn.architectures.multimodal_lm import MultimodalLM
    from ..nn.architectures.unified import Unified

    file = plan.recipe.partition(":")[0]
    code = [file] if file.endswith(".py") else []
    commands = _commands(plan.out, split_weight(plan.data[0])[0], code)
    network = read_spec(plan.out, code).model.cls
    speaks = issubclass(network, MultimodalLM)
    asks = [commands["ask"]] if speaks or network is Unified else []
    last = commands["chat"] if speaks else commands["embed"]
    console.print("\ntrained. next:", highlight=False)
    _print_lines(console, [commands["evaluate"], *asks, last])


def _commands(run: Path, data: str, code: Sequence[str]) -> dict[str, str]:
    """What to type to use a run, by verb."""
    place, source, files = shlex.quote(str(run)), shlex.quote(data), _code(code)
    return {
        "evaluate": f"sensorium evaluate {place} --data {source}{files}",
        "ask": f'sensorium ask {place} "your question" --image FILE{files}',
        "chat": f"sensorium chat {place}{files}",
        "embed": f"sensorium embed {place} --data {source} --out embeddings.parquet{files}",
    }


def _code(files: Sequence[str]) -> str:
    return "".join(f" --code {shlex.quote(file)}" for file in files)


def _print_lines(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
