"""The training loop: the same for every model, on one process or many, interrupted or not."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from ..core.errors import CheckpointError, ConfigError, DataError, SensoriumError, nearest
from ..core.modality import Modality
from ..core.random import seed_of
from ..core.spec import Spec
from ..core.state import copied_buffers, persistent_buffers, put_back
from ..data.item import Draws
from ..data.loader import Load, Loader
from ..data.order import Order
from ..data.sources.source import Source
from ..objectives.contrastive import Contrastive
from ..objectives.objective import Objective
from .average import Average
from .checkpoint import Checkpoint, Checkpoints, read, step_of
from .distributed import World, clip_gradients, gathered, share, spread
from .logs import Journal
from .muon import Muon
from .optimizer import AdamW, WarmupCosine, set_rate
from .progress import Bar
from .rules import Rule
from .settings import Duration, Limits, Loading, Saving, within
from .state import restore, snapshot
from .step import Learner, Step

_PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


class NotFinite(SensoriumError):
    """The loss or its gradient was not finite too many steps in a row."""


@dataclass
class Training:
    """Everything about how a model learns; a recipe's ``training`` Spec.

    ``average`` is the decay of the moving average of weights, or None. ``precision`` is ``auto`` (fp32 on CPU, bf16
    on GPU), ``fp32`` or ``bf16``. ``distribution`` is ``ddp`` or ``fsdp``, used under ``torchrun``. ``validate`` is
    the number of validations on the way. ``rules`` are ordered: see ``sensorium.training.rules.Rule``.
    """

    duration: Duration = Spec(Duration, epochs=10)  # type: ignore[assignment]
    loading: Loading = Spec(Loading)  # type: ignore[assignment]
    optimizer: AdamW | Muon = Spec(AdamW)  # type: ignore[assignment]
    schedule: WarmupCosine = Spec(WarmupCosine)  # type: ignore[assignment]
    saving: Saving = Spec(Saving)  # type: ignore[assignment]
    limits: Limits = Spec(Limits)  # type: ignore[assignment]
    rules: list[Rule] = field(default_factory=list)
    clip: float = 1.0
    average: float | None = 0.99
    precision: str = "auto"
    distribution: str = "ddp"
    compile: bool = False
    validate: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        within("training.clip", self.clip, 0)
        within("training.average", self.average or 0, 0, 1)
        within("training.validate", self.validate, 0)


@dataclass
class Progress:
    """The part of a run's state that is plain numbers, saved as JSON."""

    step: int = 0
    seconds: float = 0.0
    seen: int = 0
    broken: int = 0
    skipped: int = 0
    log: int = 0
    quarantine: int = 0


@dataclass(frozen=True)
class Outcome:
    """How a call of ``Trainer.run`` ended."""

    finished: bool
    step: int
    seconds: float
    broken: int


class Trainer:
    """Trains a model in a run directory; calling ``run`` on a directory with checkpoints goes on from the newest.

    Under several ranks only the first writes. ``validate(model)`` returns figures and examples for the log. ``taught``
    is what is run in training in place of the model, whose parameters it has: the model beside its teacher.
    ``run`` raises DataError above the share of broken samples, NotFinite after too many skipped steps,
    CheckpointError if what is there does not fit the model or the last checkpoint cannot be written.
    """

    def __init__(
        self,
        *,
        run: Path,
        model: nn.Module,
        modalities: Mapping[str, Modality],
        objectives: Mapping[str, Objective],
        contrastive: Contrastive | None,
        sources: Sequence[tuple[Source, float]],
        training: Training,
        world: World,
        validate: Callable[[nn.Module], Mapping[str, Any]] | None = None,
        taught: nn.Module | None = None,
        console: Console | None = None,
    ) -> None:
        if not objectives and contrastive is None:
            raise ConfigError("there is no objective: nothing can be learnt")
        self.run_directory, self.training, self.world = run, training, world
        self.console = console or Console(stderr=True, quiet=not world.first)
        self.validation = validate
        loading = training.loading
        self.order = Order(
            [len(source) for source, _ in sources],
            [weight for _, weight in sources],
            batch=loading.batch,
            seed=training.seed,
        )
        self.loader = Loader(
            [source for source, _ in sources],
            self.order,
            modalities,
            draws=Draws(loading.turns, loading.withhold, loading.corrupt),
            seed=training.seed,
            rank=world.rank,
            ranks=world.size,
            micro=loading.accumulate,
            workers=loading.workers,
            cache=loading.cache_mb << 20,
        )
        self.model = model.to(world.device)
        self.learner = Learner(taught.to(world.device) if taught is not None else self.model, objectives)
        if training.compile:
            self.learner.compile()
        spread(self.learner, world, training.distribution)
        self.named = dict(self.model.named_parameters())
        self.optimizer = training.optimizer.make(self.named.items(), training.rules)
        self.average = Average(self.named.items(), training.average) if training.average is not None else None
        self.step = Step(self.learner, objectives, contrastive, world, _autocast(training.precision, world))
        self.checkpoints = Checkpoints(run / "checkpoints", training.saving.keep)
        self.progress = Progress()
        self.saved: int | None = None  # the step of the newest checkpoint
        self.asked = False  # this process, by a signal, to stop
        self.stop = False  # what all ranks agreed on

    def run(self) -> Outcome:
        """Train until done, or until SIGTERM or SIGINT, which save and return."""
        self.journal = Journal(self.run_directory, self.console) if self.world.first else None
        try:
            self.resume()
            with self._signals():
                self._train()
            if self.saved != self.progress.step:
                self._save_last()
        finally:
            if self.journal is not None:
                self.journal.close()
        state = self.progress
        return Outcome(self._fraction() >= 1, state.step, state.seconds, state.broken)

    def _train(self) -> None:
        state, training = self.progress, self.training
        steps = training.duration.steps_of(self.order.batches)
        bar = Bar(self.console, "training")
        done = self._fraction()
        validated = done * training.validate // 1
        tried, tried_at = state.step, time.monotonic()
        self.learner.train()
        with closing(self.loader.iterate(state.step, steps)) as loads, closing(bar):
            clock = time.monotonic()
            while done < 1 and not self.stop:
                rate = training.optimizer.lr * training.schedule(done)
                set_rate(self.optimizer, rate)
                record, good = self._step(next(loads))
                taken = time.monotonic() - clock
                clock += taken
                state.seconds += taken
                if record is not None:
                    self._record(
                        record
                        | {
                            "learning_rate": rate,
                            "seconds": round(state.seconds, 3),
                            "samples_per_second": round(good / max(taken, 1e-9), 1),
                        }
                    )
                done = self._fraction()
                bar.show(done, f"step {state.step}" + (f"  loss {record['loss']:.3f}" if record else ""))
                if self.validation is not None and done * training.validate // 1 > validated:
                    validated = done * training.validate // 1
                    self._validate()
                    clock = time.monotonic()
                since = self.world.agree(time.monotonic() - tried_at)
                if done < 1 and training.saving.due(state.step, tried, since):
                    self._save_on_the_way()
                    tried, tried_at = state.step, time.monotonic()
                    clock = tried_at

    def _fraction(self) -> float:
        duration, state = self.training.duration, self.progress
        progress = duration.progress(state.step, state.seconds, self.order.batches)
        return self.world.agree(progress) if duration.minutes is not None else progress

    def _step(self, load: Load) -> tuple[dict[str, Any] | None, int]:
        """One step: gradients, the decision whether they can be used, and the update.

        Returns what to log, unless the step was skipped, and how many samples it had.
        """
        state = self.progress
        buffers = copied_buffers(self.model)
        loss, losses = self.step(load.batches, seed_of(self.training.seed, load.step))
        norm = clip_gradients(list(self.named.values()), self.training.clip)
        finite = bool(torch.isfinite(loss)) and bool(torch.isfinite(norm))
        digest = sum(seed_of(key) & 0xFFFFFFFF for key in load.keys)
        mine = [not finite, self.asked, len(load.problems), len(load.keys), digest]
        flags = torch.tensor(mine, dtype=torch.float64, device=self.world.device)
        bad, asked, broken, good, keys = map(int, self.world.sum(flags).tolist())
        self.stop = asked > 0
        state.step = load.step + 1
        state.seen += good + broken
        state.broken += broken
        if broken:
            self._quarantine(load)
        if bad:
            put_back(self.model, buffers)  # what is not finite must not stay in running statistics
            self._skip(load, loss, losses)
        else:
            state.skipped = 0
            share(list(persistent_buffers(self.model).values()), self.world)
            self.optimizer.step()
            if self.average is not None:
                self.average.update(state.step)
        self.optimizer.zero_grad(set_to_none=True)
        if bad:
            return None, good
        record = {
            "step": state.step,
            "loss": float(loss),
            "losses": {name: float(value) for name, value in losses.items()},
            "gradient_norm": float(norm),
            "keys": f"{keys % (1 << 32):08x}",  # of all ranks, in whatever order
        }
        return record, good

    def _quarantine(self, load: Load) -> None:
        """Write down the broken samples of all ranks. DataError if there are too many."""
        state, limits = self.progress, self.training.limits
        problems = self.world.gather([problem.record() for problem in load.problems])
        if self.journal is not None:
            for problem in problems:
                self.journal.broken(problem | {"step": state.step})
        if state.broken > max(limits.broken_grace, limits.broken * state.seen):
            raise DataError(
                f"{state.broken} of {state.seen} samples are broken, more than limits.broken = {limits.broken:.0%}; "
                f"each is named in {self.run_directory / 'quarantine.jsonl'}"
            )

    def _skip(self, load: Load, loss: Tensor, losses: Mapping[str, Tensor]) -> None:
        """Write down a step that cannot be used. NotFinite if there are too many in a row."""
        state = self.progress
        state.skipped += 1
        keys = self.world.gather(load.keys)
        unusable = [name for name, value in losses.items() if not torch.isfinite(value)]
        reason = f"loss {float(loss)}: {', '.join(unusable)}" if unusable else "the gradient is not finite"
        if self.journal is not None:
            self.journal.event({"event": "skipped", "step": state.step, "reason": reason, "keys": keys})
        self.console.print(f"step {state.step} skipped: {reason} (keys in log.jsonl)", style="yellow")
        if state.skipped >= self.training.limits.skipped:
            raise NotFinite(
                f"the loss or gradient was not finite in {state.skipped} steps in a row, the last at step "
                f"{state.step}: {reason}; its samples were {', '.join(keys[:8])}{', ...' if keys[8:] else ''} "
                f"(all in {self.run_directory / 'log.jsonl'})"
            )

    def _record(self, record: dict[str, Any]) -> None:
        if self.journal is None:
            return
        self.journal.event(record)
        plain = {
            name: record[name] for name in ("loss", "learning_rate", "gradient_norm", "samples_per_second")
        }
        losses = {f"losses/{name}": value for name, value in record["losses"].items()}
        self.journal.scalars(plain | losses, record["step"])

    def _validate(self) -> None:
        """Figures and examples with the averaged weights, into the log."""
        assert self.validation is not None
        self.learner.eval()
        with self.averaged(), gathered(self.learner):
            found = self.validation(self.model)
        self.learner.train()
        if self.journal is not None:
            self.journal.event({"event": "validation", "step": self.progress.step} | dict(found))
            figures = {f"validation/{name}": value for name, value in found["figures"].items()}
            self.journal.scalars(figures, self.progress.step)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The model with its averaged weights, if it keeps any."""
        if self.average is None:
            yield
            return
        self.average.swap()
        try:
            yield
        finally:
            self.average.swap()

    def _save_on_the_way(self) -> None:
        """A checkpoint; a full disk is told, and the run goes on with the earlier checkpoint intact."""
        try:
            self.save()
        except OSError as error:
            step = self.progress.step
            self.console.print(f"no checkpoint at step {step}: {error}; going on", style="yellow")
            if self.journal is not None:
                self.journal.event({"event": "unsaved", "step": step, "reason": str(error)})

    def _save_last(self) -> None:
        try:
            self.save()
        except OSError as error:
            kept = (
                f"that of step {self.saved} is intact"
                if self.saved is not None
                else "there is none before it"
            )
            raise CheckpointError(
                f"{self.checkpoints.path(self.progress.step)}: the last checkpoint could not be written: {error}; "
                f"{kept}. Make room and give the same command again"
            ) from None

    def save(self) -> None:
        """Write a checkpoint. A collective: every rank calls it, and every rank gets the OSError of the first."""
        tensors = snapshot(self.model, self.optimizer, self.average)
        failure: OSError | None = None
        if self.journal is not None:
            try:
                self.progress.log = self.journal.log.length()
                self.progress.quarantine = self.journal.quarantine.length()
                self.checkpoints.save(self.progress.step, Checkpoint(tensors, vars(self.progress).copy()))
            except OSError as error:
                failure = error
        if self.world.agree(float(failure is not None)):
            raise failure or OSError("the first process could not write it")
        self.saved = self.progress.step

    def resume(self) -> None:
        """Take up the newest good checkpoint, if there is any, and say which. The first rank chooses."""
        newest, damaged = self.checkpoints.newest() if self.world.first else (None, [])
        for sentence in damaged:
            self.console.print(f"{sentence}; trying the one before", style="yellow")
        lost = self.world.agree(newest is None and bool(damaged))
        found_step = step_of(newest) if newest is not None else None
        step = int(self.world.agree(-1 if found_step is None else found_step))
        if lost:
            raise CheckpointError(
                f"every checkpoint of {self.run_directory} is damaged: choose another --out"
            )
        if step >= 0:
            path = self.checkpoints.path(step)
            found = read(path)
            restore(found, path, self.model, self.optimizer, self.average)
            self.progress = _progress(found.state, path)
            self.saved = step
            self.console.print(f"resuming from step {step} ({path})", highlight=False)
        if self.journal is not None:
            for later in [s for s in self.checkpoints.steps() if s > step]:
                self.checkpoints.set_aside(later)
            self.journal.begin(self.progress.log, self.progress.quarantine, self.progress.step + 1)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask the loop to save and leave after the current step."""

        def ask(number: int, frame: object) -> None:
            self.asked = True

        old = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def _autocast(precision: str, world: World) -> torch.dtype | None:
    if precision == "auto":
        precision = "bf16" if world.device.type == "cuda" else "fp32"
    if precision not in _PRECISIONS:
        raise ConfigError(f"training.precision is {precision!r}{nearest(precision, [*_PRECISIONS, 'auto'])}")
    return _PRECISIONS[precision]


def _progress(state: Mapping[str, Any], where: Path) -> Progress:
    names = {entry.name for entry in fields(Progress)}
    if state.keys() != names:
        raise CheckpointError(f"{where / 'state.json'}: has {sorted(state)}, expected {sorted(names)}")
    return Progress(**state)
