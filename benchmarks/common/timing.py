"""Timing by repetition: warm-up first, then the median of wall and CPU time with its interval."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sensorium.evaluation.metrics import bootstrap


@dataclass(frozen=True)
class Timing:
    """Seconds of one call, on the clock and of the processor (all threads together), and what it returned."""

    wall: float
    cpu: float
    result: Any


def once(call: Callable[[], Any]) -> Timing:
    """Time one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = call()
    return Timing(time.perf_counter() - wall, time.process_time() - cpu, result)


def interleaved(
    first: Callable[[], Any], second: Callable[[], Any], times: int
) -> tuple[list[Timing], list[Timing]]:
    """Time two calls in turns, ABBA, so that what slows the machine for a while slows both."""
    found: tuple[list[Timing], list[Timing]] = ([], [])
    for turn in range(times):
        for place in (0, 1) if turn % 2 == 0 else (1, 0):
            found[place].append(once((first, second)[place]))
    return found


def ratios(ours: Sequence[Timing], theirs: Sequence[Timing]) -> dict[str, Any]:
    """How many times faster ours is, turn by turn: the median with its interval."""
    return figure([other.wall / own.wall for own, other in zip(ours, theirs, strict=True)])


def figure(values: Sequence[float], digits: int = 4) -> dict[str, Any]:
    """The median, its bootstrap 95 % interval, and the number of repetitions; ``digits`` are significant."""
    found = bootstrap(torch.tensor(values, dtype=torch.float64), statistic="median")
    rounded = {name: float(f"{getattr(found, name):.{digits}g}") for name in ("value", "low", "high")}
    return rounded | {"n": found.n}
