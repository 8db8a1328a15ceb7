"""How long, how much at once, how often to save, and when to give up."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..core.errors import ConfigError


@dataclass(frozen=True)
class Duration:
    """The length of a run: in ``steps``, ``epochs`` or ``minutes`` of training; just one of them.

    A run given in steps or epochs is the same at every repetition. One given in minutes follows the clock: its
    schedule is driven by the time spent, so it ends on time on any machine, and differs from run to run.
    """

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        if len(given) != 1:
            raise ConfigError(f"duration needs one of steps, epochs or minutes, found {given or 'none'}")
        name, value = next(iter(given.items()))
        if not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"duration.{name} must be above 0, found {value}")

    def steps_of(self, per_epoch: float) -> int | None:
        """The number of steps that sees every sample ``epochs`` times, unless the clock decides."""
        if self.epochs is not None:
            return max(1, math.ceil(self.epochs * per_epoch - 1e-6))
        return self.steps

    def progress(self, step: int, seconds: float, per_epoch: float) -> float:
        """How far the run is, in [0, 1]."""
        if self.minutes is not None:
            return min(seconds / (60 * self.minutes), 1.0)
        return min(step / (self.steps_of(per_epoch) or 1), 1.0)


@dataclass(frozen=True)
class Loading:
    """``batch`` samples per step over all ranks, in ``accumulate`` micro-batches; ``workers`` processes prepare them,
    and each keeps up to ``cache_mb`` megabytes of prepared values in memory.

    ``turns``, ``withhold`` and ``corrupt`` are what is drawn per sample: see ``sensorium.data.item.Draws``.
    """

    batch: int = 64
    accumulate: int = 1
    workers: int = 0
    cache_mb: int = 1024
    turns: int = 2
    withhold: float = 0.5
    corrupt: float = 0.1

    def __post_init__(self) -> None:
        within("loading.batch", self.batch, 1)
        within("loading.accumulate", self.accumulate, 1)
        within("loading.workers", self.workers, 0)
        within("loading.cache_mb", self.cache_mb, 0)
        within("loading.turns", self.turns, 0)
        within("loading.withhold", self.withhold, 0, 1)
        within("loading.corrupt", self.corrupt, 0, 1)


@dataclass(frozen=True)
class Saving:
    """A checkpoint every ``minutes`` (or every ``steps``, if given) and at the end; the newest ``keep`` stay."""

    minutes: float = 5.0
    steps: int | None = None
    keep: int = 2

    def __post_init__(self) -> None:
        within("saving.minutes", self.minutes, 0)
        within("saving.steps", self.steps if self.steps is not None else 1, 1)
        within("saving.keep", self.keep, 1)

    def due(self, step: int, saved_step: int, seconds_since: float) -> bool:
        if self.steps is not None:
            return step - saved_step >= self.steps
        return seconds_since >= 60 * self.minutes


@dataclass(frozen=True)
class Limits:
    """When a run gives up: ``broken`` share of the samples seen (beyond ``broken_grace`` of them), and ``skipped``
    steps in a row with a loss or gradient that is not finite.
    """

    broken: float = 0.05
    broken_grace: int = 20
    skipped: int = 10

    def __post_init__(self) -> None:
        within("limits.broken", self.broken, 0, 1)
        within("limits.broken_grace", self.broken_grace, 0)
        within("limits.skipped", self.skipped, 1)


def within(name: str, value: float, low: float, high: float = math.inf) -> None:
    """Raise ConfigError unless ``low <= value <= high``."""
    if not low <= value <= high:
        allowed = f"at least {low}" if high == math.inf else f"from {low} to {high}"
        raise ConfigError(f"{name} must be {allowed}, found {value}")
