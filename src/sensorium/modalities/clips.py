"""What decoding a film gives, and the limits within which it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..core import DataError
from .sampling import Sampling

_SPARE = 8  # frames kept while decoding, for each that is wanted
_SPARED = 256  # frames that are kept in any case; beyond, two for each that is wanted
_LONGEST_SHAPE = 16  # strips longer than this are reduced further
_MOST_KEPT = 1 << 30  # pixels of all frames that are kept


@dataclass(frozen=True)
class Clip:
    """``frames`` uint8 [n, h, w, 3] at ``rate`` frames per second."""

    frames: np.ndarray
    rate: float


@dataclass(frozen=True)
class Limits:
    """What is decoded: the frames that ``sampling`` chooses, of at least ``side`` pixels, from a film of at most so
    many ``pixels`` per frame, ``seconds`` and frames (``count``).
    """

    sampling: Sampling
    side: int
    pixels: int
    seconds: float
    count: int

    def check_duration(self, seconds: float) -> None:
        """Raise DataError for a film that lasts longer than is allowed."""
        if seconds > self.seconds:
            raise DataError(f"the film lasts {seconds:,.1f} s or more, the limit is {self.seconds:g} s")

    def reduced(self, width: int, height: int) -> tuple[int, int]:
        """Width and height at which frames of this size are kept."""
        scale = min(1.0, self.side / min(width, height), _LONGEST_SHAPE * self.side / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))


def check_count(count: int, limit: int) -> None:
    """Raise DataError for more than ``limit`` frames."""
    if count > limit:
        raise DataError(f"the film has {count:,} frames or more, the limit is {limit:,}")


def check_kept(count: int, width: int, height: int) -> None:
    """Raise DataError for more frames of this size than fit into memory."""
    if count * width * height > _MOST_KEPT:
        raise DataError(
            f"{count:,} frames of {width} x {height} pixels would be kept of the film, "
            f"the limit is {_MOST_KEPT:,} pixels in all: choose fewer frames"
        )


class Sampler:
    """Every ``stride``-th frame of a stream of unknown length; the stride doubles when the store is full."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        wanted = limits.sampling.most
        self.room = min(_SPARE * wanted, max(2 * wanted, _SPARED))
        self.kept: list[np.ndarray] = []
        self.size: tuple[int, int] | None = None
        self.stride, self.count = 1, 0

    def offer(self, width: int, height: int, convert: Callable[[int, int], np.ndarray]) -> None:
        """Count a frame and, if its turn has come, keep ``convert(width, height)`` at the reduced size."""
        if len(self.kept) > self.room:
            self.kept = self.kept[::2]
            self.stride *= 2
        if self.count % self.stride == 0:
            if self.size is None:  # later frames follow the first
                self.size = self.limits.reduced(width, height)
            check_kept(len(self.kept) + 1, *self.size)
            self.kept.append(convert(*self.size))
        self.count += 1
        check_count(self.count, self.limits.count)

    def clip(self, rate: float) -> Clip:
        """The wanted frames, of a film at ``rate`` frames per second."""
        if not self.kept:
            raise DataError("the film has no frames that can be decoded")
        last = len(self.kept) - 1
        places = self.limits.sampling.places(self.count, rate)
        chosen = [self.kept[min(place // self.stride, last)] for place in places]
        return Clip(np.stack(chosen), rate * len(chosen) / self.count)
