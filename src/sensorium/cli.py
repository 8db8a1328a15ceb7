"""The command line: ``sensorium VERB ...``. Every verb is a function here; its docstring is its help."""

from __future__ import annotations

import itertools
import json
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import tyro
from rich.console import Console
from tyro.conf import Positional as Free
from tyro.conf import UseAppendAction as Many

from .core import ConfigError, SensoriumError

if TYPE_CHECKING:
    from .model import Model
    from .run import Plan

#: Minutes of a demo that evaluation, looks on the way and the report take.
_AFTER_TRAINING = 1.4


def world(out: Path, samples: int = 10_000, seed: int = 0, clips: float = 0.1) -> None:
    """Write the embedded data set: pictures, sounds, clips, captions and questions with exact ground truth.

    Args:
        out: folder to write; refused if it holds anything else.
        samples: training scenes; 200 validation, 500 test and 500 compositional scenes come with them.
        seed: another seed gives other scenes.
        clips: share of scenes that come as a clip instead of a picture.
    """
    from .data.world import write_world

    summary = write_world(out, samples, seed, clips=clips)
    console = Console()
    if summary.already_there:
        console.print(f"{out} is already there")
    for split, path in summary.manifests.items():
        console.print(f"{split:14} {summary.counts[split]:6} samples  {path}", highlight=False)


def inspect(
    data: Free[str],
    decode: int | None = None,
    split: str | None = None,
    recipe: str | None = None,
    json_out: Path | None = None,
) -> None:
    """Look at data before training: counts, sizes, duplicates, broken items, and what will be learnt.

    Args:
        data: a manifest (.jsonl, .csv, .tsv), .tar shards (braces allowed), .parquet, or a folder of class folders.
        decode: decode only so many samples, evenly spread; by default all.
        split: look at one split only.
        recipe: take modalities from this recipe too, for example my_file.py:my_recipe.
        json_out: also write what was found to this file.
    """
    from .data.preflight import inspect as look
    from .data.preflight import render
    from .data.sources.open import open_source
    from .modalities import standard
    from .run import resolve

    if decode is not None and decode < 0:
        raise ConfigError(f"--decode must be at least 0, found {decode}")
    known = standard()
    if recipe is not None:
        known |= {name: part.build() for name, part in resolve(recipe)[0].modalities.items()}
    found = look(open_source(data, modalities=known, split=split), known, decode=decode)
    render(found, Console())
    if json_out is not None:
        json_out.write_text(json.dumps(found.to_json(), indent=1))
    if not found.ok:
        raise SystemExit(1)


def train(
    recipe: Free[str],
    overrides: Free[tuple[str, ...]] = (),
    *,
    data: Many[tuple[str, ...]],
    out: Path,
    validation: str | None = None,
    epochs: float | None = None,
    steps: int | None = None,
    minutes: float | None = None,
    processes: int = 1,
    device: str | None = None,
) -> None:
    """Train a recipe on your data, or go on with a run that was interrupted.

    Args:
        recipe: unified:tiny, unified:small, unified:base, or yours: my_file.py:my_recipe.
        overrides: settings as path=value, for example trunk.depth=6 optimizer.lr=3e-4.
        data: where the samples are; repeat it to mix sources, with weights as PATH@0.5.
        out: the run's folder.
        validation: data to look at on the way; by default the samples whose split is "validation".
        epochs: how often to go through the data; by default what the recipe says.
        steps: or how many steps to take.
        minutes: or how long to train; the schedule then follows the clock.
        processes: ranks to start on this machine; on a CPU, one per core is fastest.
        device: cpu or cuda; by default cuda where there is one.
    """
    from .run import Plan
    from .training.distributed import is_rank

    _require(data)
    duration = {"epochs": epochs, "steps": steps, "minutes": minutes}
    plan = Plan(recipe, data, out, overrides, duration, validation)
    console = Console()
    if is_rank() or processes == 1:
        _train_here(plan, device, console)
    else:
        _train_ranks(plan, processes, device, console)


def _train_here(plan: Plan, device: str | None, console: Console) -> None:
    """Train in this process, which may be one of several."""
    from .run import train as run_train
    from .training.distributed import is_rank
    from .training.distributed import world as join

    with join(device) as here:
        outcome = run_train(plan, world=here, console=Console(quiet=not here.first))
        if here.first and not outcome.finished:
            console.print(f"stopped at step {outcome.step}; the same command goes on from there")
        elif here.first and not is_rank():
            _say_next(console, plan)


def _train_ranks(plan: Plan, processes: int, device: str | None, console: Console) -> None:
    """Train in several processes. What a user may have got wrong is found here, before they start."""
    from .launch import launch
    from .run import prepare

    prepare(plan, console)
    arguments = ["train", plan.recipe, *plan.overrides, "--out", str(plan.out)]
    arguments += [part for path in plan.data for part in ("--data", path)]
    given = {"validation": plan.validation, "device": device, **plan.duration}
    arguments += [
        part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))
    ]
    if status := launch(arguments, processes):
        raise SystemExit(status)
    _say_next(console, plan)


def evaluate(
    run: Free[Path],
    *,
    data: Many[tuple[str, ...]],
    split: str | None = None,
    limit: int = 1000,
    template: Many[tuple[str, ...]] = (),
    code: Many[tuple[str, ...]] = (),
    device: str = "cpu",
) -> None:
    """Evaluate a run on data and write its report.

    Args:
        run: the run's folder.
        data: one or more data sets; the first is the main one.
        split: only samples of this split.
        limit: at most so many samples of each data set.
        template: texts for zero-shot classes, for example "a photo of a {}"; several make an ensemble.
        code: your Python files that the run was trained with.
        device: cpu or cuda.
    """
    from .model import load

    console = Console()
    _require(data)
    model = load(run, code=code, device=device)
    for place, path in enumerate(data):
        _evaluate(model, run, path, split, limit, template, first=place == 0, console=console)
    _report(run, console, data[0], code)


def ask(
    run: Free[Path],
    question: Free[str | None] = None,
    *,
    image: Many[tuple[Path, ...]] = (),
    audio: Many[tuple[Path, ...]] = (),
    video: Many[tuple[Path, ...]] = (),
    series: Many[tuple[Path, ...]] = (),
    media: Many[tuple[str, ...]] = (),
    tokens: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
    code: Many[tuple[str, ...]] = (),
    device: str = "cpu",
) -> None:
    """Ask a trained model about a picture, a sound, a clip or a recording; without a question it describes it.

    Args:
        run: the run's folder.
        question: for example "what colour is the star?"
        image: picture files.
        audio: sound files.
        video: clip files.
        series: sensor files.
        media: any other modality, as name=file.
        tokens: longest answer, in tokens.
        temperature: 0 takes the likeliest words; above that they are drawn.
        seed: for drawing.
        code: your Python files that the run was trained with.
        device: cpu or cuda.
    """
    from .model import load

    given = {"image": image, "audio": audio, "video": video, "series": series}
    values: dict[str, Any] = {name: list(files) for name, files in given.items() if files}
    for pair in media:
        name, equals, file = pair.partition("=")
        if not equals:
            raise ConfigError(f"--media {pair!r}: expected name=file")
        values.setdefault(name, []).append(Path(file))
    model = load(run, code=code, device=device)
    answer = model.generate(question, max_new_tokens=tokens, temperature=temperature, seed=seed, **values)
    Console().print(answer, markup=False, highlight=False, soft_wrap=True)


def embed(
    run: Free[Path],
    *,
    data: str,
    out: Path,
    modality: Many[tuple[str, ...]] = (),
    split: str | None = None,
    batch_size: int = 64,
    code: Many[tuple[str, ...]] = (),
    device: str = "cpu",
) -> None:
    """Write the embeddings of data to .parquet (all modalities; key, modality, vector) or .npy (one modality).

    Args:
        run: the run's folder.
        data: any data that train accepts.
        out: ends in .parquet or .npy; beside an .npy, the keys go to a .keys.txt file.
        modality: which to embed; by default all that the model knows.
        split: only samples of this split.
        batch_size: how many at once.
        code: your Python files that the run was trained with.
        device: cpu or cuda.
    """
    from .embeddings import write_embeddings
    from .model import load

    model = load(run, code=code, device=device)
    written = write_embeddings(model, data, out, names=modality, split=split, batch_size=batch_size)
    console = Console(stderr=True)
    for problem in written.problems:
        console.print(f"left out: {problem}", style="yellow", markup=False)
    console.print(f"{written.count} embeddings of width {written.width} in {out}")


def demo(out: Path = Path("runs/demo"), minutes: float = 6.0, seed: int = 0) -> None:
    """The main job on the embedded data: make it, train, evaluate, and write the report.

    Args:
        out: the run's folder; the data goes beside it. An earlier run there is moved aside.
        minutes: for everything, from nothing to the report.
        seed: of the data and the training.
    """
    import os

    import torch

    from .data.world import write_world
    from .launch import launch
    from .model import load

    started = time.monotonic()
    console = Console()
    if not 1 <= minutes < float("inf"):
        raise ConfigError(f"--minutes must be at least 1, found {minutes}")
    _keep_earlier(out, console)
    samples = min(int(1_500 * minutes) // 500 * 500, 40_000)
    place = out.parent / f"{out.name}-world-{samples}"
    summary = write_world(place, samples, seed)
    console.print(
        f"the world: {samples} scenes in {place} ({time.monotonic() - started:.0f} s)", highlight=False
    )
    left = minutes - (time.monotonic() - started) / 60
    budget = round(max(left - _AFTER_TRAINING, 0.2), 2)
    train_data, look = str(summary.manifests["train"]), str(summary.manifests["validation"])
    arguments = ["train", "unified:tiny", f"training.seed={seed}", "--data", train_data, "--validation", look]
    processes = 1 if torch.cuda.is_available() else os.cpu_count() or 1
    if status := launch([*arguments, "--out", str(out), "--minutes", str(budget)], processes):
        raise SystemExit(status)
    model = load(out)
    for place_, split in enumerate(("test", "compositional")):
        data = str(summary.manifests[split])
        _evaluate(model, out, data, None, 500, (), first=place_ == 0, console=console)
    _report(out, console, str(summary.manifests["test"]))
    console.print(f"all of it took {(time.monotonic() - started) / 60:.1f} minutes", highlight=False)


def _keep_earlier(out: Path, console: Console) -> None:
    """Move an earlier run aside, so that a demo starts from nothing and nothing is lost."""
    if out.exists():
        number = next(n for n in itertools.count(1) if not out.with_name(f"{out.name}-{n}").exists())
        out.rename(out.with_name(f"{out.name}-{number}"))
        console.print(f"the earlier {out} is now {out}-{number}", highlight=False)


def _require(data: Sequence[str]) -> None:
    if not data:
        raise ConfigError("--data is missing: where are the samples?")


def _evaluate(
    model: Model,
    run: Path,
    data: str,
    split: str | None,
    limit: int,
    templates: Sequence[str],
    *,
    first: bool,
    console: Console,
) -> None:
    """Measure the model on one data set and leave the results in the run."""
    from .data.sources.open import open_source
    from .data.world import judge
    from .evaluation import Answer, Caption, Classify, Retrieval, Withheld
    from .evaluation import evaluate as measure
    from .modalities import standard

    source = open_source(data, modalities=standard() | dict(model.modalities), split=split)
    tasks = [Retrieval(), Classify(templates=tuple(templates)), Caption(), Answer(), Withheld()]
    name = Path(data).stem
    embedded = (Path(data).parent / "world.json").is_file()
    found = measure(model, source, name=name, tasks=tasks, limit=limit, compare=judge if embedded else None)
    found.write(run if first else run / "evaluation" / name)
    console.print(
        f"evaluated on {name}: {found.counts['evaluated']} samples, {found.seconds:.0f} s", highlight=False
    )


def _report(run: Path, console: Console, data: str, code: Sequence[str] = ()) -> None:
    """Write the report, and say where it is and what to type next."""
    from .evaluation.report import Command, write_report

    path, asks = shlex.quote(str(run)), _commands(run, data, code)
    commands = [
        Command("Ask it", asks["ask"]),
        Command("Evaluate on other data", f"sensorium evaluate {path} --data DATA{_code(code)}"),
        Command("Embed a data set", asks["embed"]),
        Command("Use it from Python", f"python -ic 'import sensorium; model = sensorium.load(\"{run}\")'"),
    ]
    page = write_report(run, commands=commands)
    console.print(f"\nthe report:  {page}\nthe figures: {run / 'evaluation.json'}\nnext:", highlight=False)
    _print_lines(console, [command.line for command in commands])


def _say_next(console: Console, plan: Plan) -> None:
    from .data.sources.open import split_weight

    file = plan.recipe.partition(":")[0]
    commands = _commands(plan.out, split_weight(plan.data[0])[0], [file] if file.endswith(".py") else [])
    console.print("\ntrained. next:", highlight=False)
    _print_lines(console, [commands["evaluate"], commands["ask"], commands["embed"]])


def _commands(run: Path, data: str, code: Sequence[str]) -> dict[str, str]:
    """What to type to use a run, by verb."""
    place, source, files = shlex.quote(str(run)), shlex.quote(data), _code(code)
    return {
        "evaluate": f"sensorium evaluate {place} --data {source}{files}",
        "ask": f'sensorium ask {place} "your question" --image FILE{files}',
        "embed": f"sensorium embed {place} --data {source} --out embeddings.parquet{files}",
    }


def _code(files: Sequence[str]) -> str:
    return "".join(f" --code {shlex.quote(file)}" for file in files)


def _print_lines(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)


VERBS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "train": train,
    "inspect": inspect,
    "evaluate": evaluate,
    "embed": embed,
    "ask": ask,
    "world": world,
}


def _fail(reason: str) -> NoReturn:
    """One line, however long: a terminal wraps it, a log does not."""
    Console(stderr=True).print(f"error: {reason}", style="red", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(2) from None


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. A user's mistake prints one line and exits with 2; there is no traceback."""
    try:
        tyro.extras.subcommand_cli_from_dict(VERBS, prog="sensorium", args=arguments, description=__doc__)
    except SensoriumError as error:
        _fail(str(error))
    except OSError as error:  # a file that cannot be read or written
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
