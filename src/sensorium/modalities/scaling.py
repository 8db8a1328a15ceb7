"""Fixed normalisation constants: learnt once from the training data, saved, and the same ever after."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core import CheckpointError, DataError

_SMALLEST = 1e-6  # a channel that never varies is centred, not blown up


@dataclass(frozen=True)
class Scaling:
    """``(value - mean) / std`` per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @staticmethod
    def learn(values: Iterable[np.ndarray]) -> Scaling:
        """Mean and standard deviation of the rows of arrays [rows, channels], in one pass (Chan et al. 1979).

        A channel that never varies gets the standard deviation 1. Raises DataError if there are no rows.
        """
        count, mean, squares = 0, np.zeros(1), np.zeros(1)
        for value in values:
            rows = value.astype(np.float64)
            new = len(rows)
            if new == 0:
                continue
            step = rows.mean(0) - mean
            squares = squares + ((rows - rows.mean(0)) ** 2).sum(0) + step**2 * count * new / (count + new)
            mean = mean + step * new / (count + new)
            count += new
        if count == 0:
            raise DataError("there is no training data to learn the normalisation from")
        std = np.sqrt(squares / count)
        std = np.where(std > _SMALLEST * np.maximum(1.0, np.abs(mean)), std, 1.0)
        return Scaling(tuple(mean.tolist()), tuple(std.tolist()))

    def save(self, file: Path) -> None:
        """Write the constants as JSON."""
        file.write_text(json.dumps({"mean": self.mean, "std": self.std}), encoding="utf-8")

    @staticmethod
    def load(file: Path, channels: int) -> Scaling:
        """Read what ``save`` wrote. Raises CheckpointError if missing, damaged or for other channels."""
        try:
            data = json.loads(file.read_text(encoding="utf-8"))
            scaling = Scaling(*(tuple(float(v) for v in data[key]) for key in ("mean", "std")))
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None
        except (ValueError, TypeError, KeyError):
            raise CheckpointError(f'{file}: expected {{"mean": [numbers], "std": [numbers]}}') from None
        if not len(scaling.mean) == len(scaling.std) == channels:
            raise CheckpointError(
                f"{file}: expected {channels} channels, found {len(scaling.mean)} means "
                f"and {len(scaling.std)} deviations"
            )
        if not all(np.isfinite(scaling.mean)) or not all(0 < s < np.inf for s in scaling.std):
            raise CheckpointError(f"{file}: means must be finite and deviations finite and above 0")
        return scaling
