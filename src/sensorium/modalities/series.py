"""Sensor recordings: CSV and NPY files, arrays and lists, one row per time step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..core import ConfigError, DataError, Modality
from . import html
from .files import MIB, is_source, read_bytes
from .scaling import Scaling
from .table import NPY_MAGIC, from_csv, from_npy

_WIDTH, _LANE, _POINTS = 320, 48, 400
_COLOURS = ("#3366cc", "#cc4433", "#339955", "#aa7711", "#8844aa", "#228899")


@final
class Series(Modality):
    """Recordings of ``channels`` sensors as float32 [steps, channels], normalised per channel.

    ``columns`` chooses the channels of a CSV file by the names in its first line. With ``steps`` every
    recording must have exactly that many; otherwise ``prepare`` keeps the first ``max_steps``. The mean and
    deviation of each channel are given, or learnt by ``fit`` (0 and 1 until then). In training, Gaussian
    ``noise`` of that many standard deviations is added. ``rate`` (Hz) only labels what is shown.
    """

    name: ClassVar[str] = "series"
    extensions: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".npy")

    def __init__(
        self,
        *,
        channels: int = 1,
        columns: list[str] | None = None,
        steps: int | None = None,
        max_steps: int = 1024,
        rate: float | None = None,
        mean: list[float] | None = None,
        std: list[float] | None = None,
        noise: float = 0.0,
        max_bytes: int = 256 * MIB,
    ) -> None:
        if channels < 1 or max_steps < 1 or (steps is not None and steps < 1):
            raise ConfigError("Series: channels, steps and max_steps must be at least 1")
        if columns is not None and len(columns) != channels:
            raise ConfigError(f"Series: channels is {channels}, but {len(columns)} columns are named")
        if (mean is None) != (std is None):
            raise ConfigError("Series: give both mean and std, or neither")
        if mean is not None and std is not None and not (len(mean) == len(std) == channels and min(std) > 0):
            raise ConfigError(
                f"Series: mean and std (above 0) need one number per channel, {channels} in all"
            )
        if (rate is not None and rate <= 0) or noise < 0:
            raise ConfigError("Series: rate must be above 0 Hz and noise cannot be negative")
        self.channels, self.columns, self.rate = channels, columns, rate
        self.steps, self.max_steps, self.noise, self.max_bytes = steps, max_steps, noise, max_bytes
        self._given = None if mean is None or std is None else Scaling(tuple(mean), tuple(std))
        self._scaling = self._given or Scaling((0.0,) * channels, (1.0,) * channels)

    @property
    def draws(self) -> bool:
        """Whether training augments."""
        return self.noise > 0

    def read(self, source: Any) -> np.ndarray:
        """float32 [steps, channels] from a path, a file's bytes, an array, a tensor or a nested list.

        One dimension is taken as one channel. Raises DataError for anything that is not a table of numbers.
        """
        names = None
        if is_source(source):
            content = read_bytes(source, self.max_bytes)
            if content.startswith(NPY_MAGIC):
                values = from_npy(content)
            else:
                values, names = from_csv(content, self.columns)
        else:
            values = _as_array(source)
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim != 2 or values.dtype.kind not in "biuf":
            raise DataError(
                f"expected numbers [steps, {self.channels}], "
                f"found {values.dtype} of the shape {list(values.shape)}"
            )
        if values.shape[1] != self.channels:
            raise DataError(self._wrong_channels(values.shape, names))
        with np.errstate(over="ignore"):  # becomes infinite, which `check` refuses
            return values.astype(np.float32)

    def check(self, raw: np.ndarray) -> None:
        """Raise DataError unless there are steps, as many as wanted, and all values are finite."""
        if raw.ndim != 2 or raw.shape[1] != self.channels:
            raise DataError(self._wrong_channels(raw.shape, None))
        if len(raw) == 0:
            raise DataError("the recording has no steps")
        if self.steps is not None and len(raw) != self.steps:
            raise DataError(f"expected {self.steps} steps, found {len(raw)}")
        bad = np.argwhere(~np.isfinite(raw))
        if len(bad):
            step, channel = bad[0]
            raise DataError(
                f"{len(bad)} values are not finite, the first is {raw[step, channel]} "
                f"in step {step + 1} of channel {channel + 1}"
            )

    def prepare(
        self, raw: np.ndarray, generator: torch.Generator | None = None
    ) -> Float[Tensor, "steps channels"]:
        """The normalised recording, float32 [steps, channels]."""
        values = torch.tensor(raw[: self.steps or self.max_steps])
        values = (values - torch.tensor(self._scaling.mean)) / torch.tensor(self._scaling.std)
        if generator is not None and self.noise:
            values += self.noise * torch.randn(values.shape, generator=generator)
        return values

    def blank(self) -> Float[Tensor, "steps channels"]:
        """One step, or ``steps`` of them."""
        return torch.zeros(self.steps or 1, self.channels)

    def size(self, raw: np.ndarray) -> tuple[float, str]:
        """The number of steps."""
        return float(len(raw)), "steps"

    def show(self, raw: np.ndarray) -> str:
        """One line per channel, each on its own scale."""
        step = math.ceil(len(raw) / _POINTS)
        shown = raw[::step].astype(np.float64)
        lanes = "".join(self._lane(shown[:, channel], channel) for channel in range(self.channels))
        length = f"{len(raw)} steps" + (f", {len(raw) / self.rate:.4g} s" if self.rate else "")
        return (
            f'<figure style="margin:0"><svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" '
            f'height="{_LANE * self.channels}" role="img" aria-label="series, {length}">{lanes}</svg>'
            f"<figcaption>{length}</figcaption></figure>"
        )

    def fit(self, raws: Iterable[np.ndarray]) -> None:
        """Learn mean and deviation of each channel, unless they were given. Raises DataError for no data."""
        if self._given is None:
            self._scaling = Scaling.learn(raws)

    def save(self, directory: Path) -> None:
        """Write the normalisation to ``series.json``."""
        self._scaling.save(directory / "series.json")

    def load(self, directory: Path) -> None:
        """Read the normalisation from ``series.json``. Raises CheckpointError if it does not fit."""
        self._scaling = Scaling.load(directory / "series.json", self.channels)

    def _lane(self, values: np.ndarray, channel: int) -> str:
        low, high = values.min(), values.max()
        x = np.linspace(2, _WIDTH - 2, len(values)) if len(values) > 1 else np.array([_WIDTH / 2])
        y = _LANE * channel + _LANE - 4 - (values - low) / ((high - low) or 1) * (_LANE - 8)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
        label = html.escape(self.columns[channel]) if self.columns else f"channel {channel + 1}"
        return (
            f'<polyline points="{points}" fill="none" stroke="{_COLOURS[channel % len(_COLOURS)]}" '
            f'stroke-linecap="round"><title>{label}: {low:.4g} to {high:.4g}</title></polyline>'
        )

    def _wrong_channels(self, shape: tuple[int, ...], names: list[str] | None) -> str:
        wanted = f" ({', '.join(self.columns)})" if self.columns else ""
        found = f" ({', '.join(names)[:200]})" if names else ""
        turned = "; is the array transposed?" if shape[0] == self.channels and not names else ""
        return (
            f"expected {self.channels} channels{wanted}, found {shape[-1]}{found} "
            f"in the shape {list(shape)} of [steps, channels]{turned}"
        )


def _as_array(source: Any) -> np.ndarray:
    if isinstance(source, Tensor):
        return source.detach().cpu().numpy()
    try:
        return np.asarray(source)
    except (ValueError, TypeError):
        raise DataError("expected rows of equally many numbers, found rows of different lengths") from None
