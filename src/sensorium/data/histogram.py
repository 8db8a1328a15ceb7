"""A distribution in a few numbers and one line of text."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_BINS = 12
_LEVELS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Histogram:
    """Smallest, median, 95th percentile (nearest rank) and largest size, and the counts in equal bins."""

    unit: str
    count: int
    min: float
    median: float
    p95: float
    max: float
    bins: tuple[int, ...]

    @staticmethod
    def of(values: Sequence[float], unit: str) -> Histogram:
        """The histogram of one or more values."""
        ordered = sorted(values)
        low, high = ordered[0], ordered[-1]
        bins = [0] * (_BINS if high > low else 1)
        for value in ordered:
            bins[min(int((value - low) / ((high - low) or 1) * len(bins)), len(bins) - 1)] += 1
        return Histogram(
            unit=unit,
            count=len(ordered),
            min=low,
            median=statistics.median(ordered),
            p95=ordered[math.ceil(0.95 * len(ordered)) - 1],
            max=high,
            bins=tuple(bins),
        )

    def sparkline(self) -> str:
        """One character per bin; an empty bin is a blank."""
        top = max(self.bins)
        steps = len(_LEVELS) - 1
        return "".join(_LEVELS[round(count / top * steps)] if count else " " for count in self.bins)

    def to_json(self) -> dict[str, Any]:
        """The numbers as a JSON object."""
        return asdict(self) | {"bins": list(self.bins)}
