"""The training loop: the same for every model, on one process or many, interrupted or not."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from ..core.errors import CheckpointError, ConfigError, DataError, SensoriumError, nearest
from ..core.modality import Modality
from ..core.spec import Spec
from ..data.item import Draws
from ..data.loader import Load, Loader
from ..data.order import Order
from ..data.sources.source import Source
from ..objectives.contrastive import Contrastive
from ..objectives.objective import Objective
from .average import Average
from .checkpoint import Checkpoint, Checkpoints, check_names, read
from .distributed import World, fill, spread, whole
from .logs import Board, JsonLines
from .optimizer import AdamW, WarmupCosine, set_rate
from .progress import Bar
from .rules import Rule
from .settings import Duration, Limits, Loading, Saving
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
    optimizer: AdamW = Spec(AdamW)  # type: ignore[assignment]
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

    ``validate(model)`` returns figures and examples for the log. Raises DataError above the share of broken samples,
    NotFinite after too many skipped steps, CheckpointError if what is there does not fit the model.
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
        console: Console | None = None,
    ) -> None:
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
        learner = Learner(self.model, objectives)
        self.learner = spread(learner, world, training.distribution, _blocks(self.model))
        self.named = dict(self.model.named_parameters())
        self.optimizer = training.optimizer.make(self.named.items(), training.rules)
        self.average = Average(self.named.items(), training.average) if training.average is not None else None
        forward = torch.compile(self.learner) if training.compile else self.learner
        self.step = Step(forward, objectives, contrastive, world, _autocast(training.precision, world))
        self.checkpoints = Checkpoints(run / "checkpoints", training.saving.keep)
        self.progress = Progress()
        self.stop_asked = False

    def run(self) -> Outcome:
        """Train until done, or until SIGTERM or SIGINT, which save and return."""
        state, training = self.progress, self.training
        log = JsonLines(
            self.run_directory / ("log.jsonl" if self.world.first else f"log-rank{self.world.rank}.jsonl")
        )
        quarantine = JsonLines(
            self.run_directory
            / ("quarantine.jsonl" if self.world.first else f"quarantine-rank{self.world.rank}.jsonl")
        )
        self.log, self.quarantine = log, quarantine
        self.resume()
        board = Board(self.run_directory / "tensorboard") if self.world.first else None
        bar = Bar(self.console, "training")
        steps = training.duration.steps_of(self.order.batches)
        saved_step, saved_at = state.step, time.monotonic()
        validated = self._fraction() * training.validate // 1
        try:
            with self._signals():
                self.learner.train()
                clock = time.monotonic()
                for load in self.loader.iterate(state.step, steps):
                    progress = self._fraction()
                    if progress >= 1 or self.stop_asked:
                        break
                    rate = training.optimizer.lr * training.schedule(progress)
                    set_rate(self.optimizer, rate)
                    record = self._step(load)
                    now = time.monotonic()
                    taken, clock = now - clock, now
                    state.seconds += taken
                    record |= {
                        "learning_rate": rate,
                        "seconds": round(state.seconds, 3),
                        "samples_per_second": round(len(load.keys) * self.world.size / max(taken, 1e-9), 1),
                    }
                    self._record(record, board)
                    done = self._fraction()
                    bar.show(done, f"step {state.step}  loss {record['loss']:.3f}")
                    if self.validation is not None and done * training.validate // 1 > validated:
                        validated = done * training.validate // 1
                        self._validate(board)
                        clock = time.monotonic()
                    since = time.monotonic() - saved_at
                    if done < 1 and training.saving.due(state.step, saved_step, self._agree(since)):
                        self._save_or_warn()
                        saved_step, saved_at = state.step, time.monotonic()
                        clock = time.monotonic()
            finished = self._fraction() >= 1
            if state.step > saved_step or not self.checkpoints.steps():
                self.save()
            return Outcome(finished, state.step, state.seconds, state.broken)
        finally:
            bar.stop()
            log.close()
            quarantine.close()
            if board is not None:
                board.close()

    def _fraction(self) -> float:
        progress = self.training.duration.progress(
            self.progress.step, self.progress.seconds, self.order.batches
        )
        return self._agree(progress) if self.training.duration.minutes is not None else progress

    def _agree(self, value: float) -> float:
        """The first rank's value, on every rank: clocks differ, decisions must not."""
        if self.world.size == 1:
            return value
        mine = torch.tensor(
            [value if self.world.first else 0.0], dtype=torch.float64, device=self.world.device
        )
        return float(self.world.sum(mine))

    def _step(self, load: Load) -> dict[str, Any]:
        """One step: gradients, the decision whether they can be used, and the update."""
        state, training = self.progress, self.training
        for problem in load.problems:
            self.quarantine.write(problem.record() | {"step": load.step})
        loss, losses = self.step(load.batches)
        norm = whole(nn.utils.clip_grad_norm_(self.named.values(), training.clip))
        finite = bool(torch.isfinite(loss)) and bool(torch.isfinite(norm))
        flags = torch.tensor(
            [float(not finite), float(self.stop_asked), float(len(load.problems)), float(len(load.keys))],
            dtype=torch.float64,
            device=self.world.device,
        )
        bad, stop, broken, good = self.world.sum(flags).tolist()
        self.stop_asked = stop > 0
        if bad:
            state.skipped += 1
            self.log.write(
                {"event": "skipped", "step": load.step, "reason": f"loss {float(loss)}", "keys": load.keys}
            )
            self.console.print(
                f"step {load.step}: the loss is not finite; skipped (keys in log.jsonl)", style="yellow"
            )
        else:
            state.skipped = 0
            self.optimizer.step()
            if self.average is not None:
                self.average.update(load.step + 1)
        self.optimizer.zero_grad(set_to_none=True)
        state.step = load.step + 1
        state.seen += int(good + broken)
        state.broken += int(broken)
        self._check_limits(load)
        return {
            "step": state.step,
            "loss": float(loss),
            "losses": {name: float(value) for name, value in losses.items()},
            "gradient_norm": float(norm),
        }

    def _check_limits(self, load: Load) -> None:
        state, limits = self.progress, self.training.limits
        if state.skipped >= limits.skipped:
            raise NotFinite(
                f"the loss or gradient was not finite in {state.skipped} steps in a row; "
                f"the last samples were {', '.join(load.keys[:8])}... (all in {self.log.path})"
            )
        if state.broken > max(limits.broken_grace, limits.broken * state.seen):
            raise DataError(
                f"{state.broken} of {state.seen} samples are broken, more than limits.broken = {limits.broken:.0%}; "
                f"each is named in {self.quarantine.path}"
            )

    def _record(self, record: dict[str, Any], board: Board | None) -> None:
        if not self.world.first:
            return
        self.log.write(record)
        if board is not None:
            plain = {
                name: record[name]
                for name in ("loss", "learning_rate", "gradient_norm", "samples_per_second")
            }
            board.scalars(
                plain | {f"losses/{name}": v for name, v in record["losses"].items()}, record["step"]
            )

    def _validate(self, board: Board | None) -> None:
        """Figures and examples with the averaged weights, into the log."""
        assert self.validation is not None
        self.learner.eval()
        with self.averaged():
            found = self.validation(self.model)
        self.learner.train()
        if self.world.first:
            self.log.write({"event": "validation", "step": self.progress.step} | dict(found))
            if board is not None:
                board.scalars(
                    {f"validation/{name}": v for name, v in found["figures"].items()}, self.progress.step
                )

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

    def _save_or_warn(self) -> None:
        """A checkpoint on the way; a full disk is told, and the run goes on with the earlier checkpoint intact."""
        try:
            self.save()
        except OSError as error:
            self.console.print(
                f"no checkpoint at step {self.progress.step}: {error}; going on", style="yellow"
            )
            self.log.write({"event": "unsaved", "step": self.progress.step, "reason": str(error)})

    def save(self) -> None:
        """Write a checkpoint. A collective: every rank calls it."""
        self.progress.log, self.progress.quarantine = self.log.length(), self.quarantine.length()
        random = {"cpu": torch.get_rng_state()}
        if self.world.device.type == "cuda":
            random["cuda"] = torch.cuda.get_rng_state(self.world.device)
        tensors = {
            "weights": {name: _host(p.detach()) for name, p in self.named.items()},
            "optimizer": self._optimizer_tensors(),
            "random": random,
        }
        if self.average is not None:
            tensors["average"] = {name: _host(value) for name, value in self.average.values.items()}
        if self.world.first:
            self.checkpoints.save(self.progress.step, Checkpoint(tensors, vars(self.progress).copy()))
        self.world.barrier()

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        found = {}
        for name, parameter in self.named.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                found[f"{key}/{name}"] = _host(value)
        return found

    def resume(self) -> None:
        """Take up the newest good checkpoint, if there is any, and say which."""
        path, damaged = self.checkpoints.newest()
        for sentence in damaged:
            self.console.print(f"{sentence}; trying the one before", style="yellow")
        if path is None:
            if damaged:
                raise CheckpointError(
                    f"every checkpoint of {self.run_directory} is damaged: choose another --out"
                )
            self.log.cut(0)
            self.quarantine.cut(0)
            return
        found = read(path)
        check_names(self.named, found.tensors["weights"], str(path / "weights.safetensors"))
        for name, value in found.tensors["weights"].items():
            fill(self.named[name].data, value)
        if self.average is not None:
            average = found.tensors.get("average", found.tensors["weights"])
            for name, target in self.average.values.items():
                fill(target, average[name])
        for name, value in found.tensors["optimizer"].items():
            key, _, parameter = name.partition("/")
            self._set_optimizer(key, self.named[parameter], value)
        torch.set_rng_state(found.tensors["random"]["cpu"])
        if "cuda" in found.tensors["random"] and self.world.device.type == "cuda":
            torch.cuda.set_rng_state(found.tensors["random"]["cuda"], self.world.device)
        self.progress = Progress(**found.state)
        if self.world.first:
            self.log.cut(self.progress.log)
            self.quarantine.cut(self.progress.quarantine)
        self.console.print(f"resuming from step {self.progress.step} ({path})", highlight=False)

    def _set_optimizer(self, key: str, parameter: nn.Parameter, value: Tensor) -> None:
        state = self.optimizer.state[parameter]
        if key == "step":
            state[key] = value.to(parameter.device)
        else:
            state[key] = torch.zeros_like(parameter)
            fill(state[key], value)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT ask the loop to save and leave after the current step."""

        def ask(number: int, frame: object) -> None:
            self.stop_asked = True

        old = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def _host(tensor: Tensor) -> Tensor:
    return whole(tensor).detach().cpu()


def _blocks(model: nn.Module) -> list[nn.Module]:
    trunk = getattr(model, "trunk", None)
    return list(trunk.blocks) if trunk is not None else []


def _autocast(precision: str, world: World) -> torch.dtype | None:
    if precision == "auto":
        precision = "bf16" if world.device.type == "cuda" else "fp32"
    if precision not in _PRECISIONS:
        raise ConfigError(f"training.precision is {precision!r}{nearest(precision, [*_PRECISIONS, 'auto'])}")
    return _PRECISIONS[precision]
