"""Verbs that train."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from tyro.conf import Positional as Free
from tyro.conf import UseAppendAction as Many

from ..core import ConfigError
from .following import evaluate_on, report, require, say_next

if TYPE_CHECKING:
    from ..run import Plan

#: Minutes of a demo that evaluation, looks on the way and the report take.
_AFTER_TRAINING = 1.4


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
    image: str | None = None,
    text: str | None = None,
    audio: str | None = None,
    video: str | None = None,
    series: str | None = None,
    trunk: str | None = None,
    connector: str | None = None,
    learn: str | None = None,
    teacher: str | None = None,
    lock: Many[tuple[str, ...]] = (),
) -> None:
    """Train a recipe on your data, go on from a checkpoint, or go on with a run that was interrupted.

    Args:
        recipe: one of this package (unified:tiny, clip:b32, dual, vlm), yours (my_file.py:my_recipe), or a model to go
            on from: a directory or a hub id.
        overrides: settings as path=value, for example trunk.depth=6 optimizer.lr=3e-4.
        data: where the samples are; repeat it to mix sources, with weights as PATH@0.5.
        out: the run's folder.
        validation: data to look at on the way; by default the samples whose split is "validation".
        epochs: how often to go through the data; by default what the recipe says.
        steps: or how many steps to take.
        minutes: or how long to train; the schedule then follows the clock.
        processes: ranks to start on this machine; on a CPU, one per core is fastest.
        device: cpu or cuda; by default cuda where there is one.
        image: for dual and vlm, the model whose image tower is taken; text, audio, video and series alike.
        text: see image.
        audio: see image.
        video: see image.
        series: see image.
        trunk: for vlm, the model whose language model reads what the towers see.
        connector: what joins them: linear, mlp (the default), pool, unshuffle, resampler or qformer.
        learn: what a language model learns from: answers, preferences (chosen and rejected) or teacher.
        teacher: the model that is asked about every batch; for preferences, the one to begin from.
        lock: parameters that do not learn, as a pattern of their names; for example towers.image.
    """
    from ..run import Plan
    from ..training.distributed import is_rank

    require(data)
    duration = {"epochs": epochs, "steps": steps, "minutes": minutes}
    given = {"image": image, "text": text, "audio": audio, "video": video, "series": series}
    towers = {name: typed for name, typed in given.items() if typed is not None}
    plan = Plan(
        recipe, data, out, overrides, duration, validation, towers, lock, trunk, connector, learn, teacher
    )
    console = Console()
    if is_rank() or processes == 1:
        _train_here(plan, device, console)
    else:
        _train_ranks(plan, processes, device, console)


def _train_here(plan: Plan, device: str | None, console: Console) -> None:
    """Train in this process, which may be one of several."""
    from ..run import train as run_train
    from ..training.distributed import is_rank
    from ..training.distributed import world as join

    with join(device) as here:
        outcome = run_train(plan, world=here, console=Console(quiet=not here.first))
        if here.first and not outcome.finished:
            console.print(f"stopped at step {outcome.step}; the same command goes on from there")
        elif here.first and not is_rank():
            say_next(console, plan)


def _train_ranks(plan: Plan, processes: int, device: str | None, console: Console) -> None:
    """Train in several processes. What a user may have got wrong is found here, before they start."""
    from ..launch import launch
    from ..run import prepare

    prepare(plan, console)
    arguments = ["train", plan.recipe, *plan.overrides, "--out", str(plan.out)]
    arguments += [part for path in plan.data for part in ("--data", path)]
    arguments += [part for pattern in plan.lock for part in ("--lock", pattern)]
    given = {"validation": plan.validation, "device": device, **plan.duration, **plan.towers}
    given |= {"trunk": plan.trunk, "connector": plan.connector, "learn": plan.learn, "teacher": plan.teacher}
    arguments += [
        part for name, value in given.items() if value is not None for part in (f"--{name}", str(value))
    ]
    if status := launch(arguments, processes):
        raise SystemExit(status)
    say_next(console, plan)


def demo(out: Path = Path("runs/demo"), minutes: float = 6.0, seed: int = 0) -> None:
    """The main job on the embedded data: make it, train, evaluate, and write the report.

    Args:
        out: the run's folder; the data goes beside it. An earlier run there is moved aside.
        minutes: for everything, from nothing to the report.
        seed: of the data and the training.
    """

    import torch

    from ..data.world import write_world
    from ..launch import launch
    from ..model import load

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
        evaluate_on(model, out, data, None, 500, (), first=place_ == 0, console=console)
    report(out, console, str(summary.manifests["test"]), model.writes)
    console.print(f"all of it took {(time.monotonic() - started) / 60:.1f} minutes", highlight=False)


def _keep_earlier(out: Path, console: Console) -> None:
    """Move an earlier run aside, so that a demo starts from nothing and nothing is lost."""
    if out.exists():
        number = next(n for n in itertools.count(1) if not out.with_name(f"{out.name}-{n}").exists())
        out.rename(out.with_name(f"{out.name}-{number}"))
        console.print(f"the earlier {out} is now {out}-{number}", highlight=False)
