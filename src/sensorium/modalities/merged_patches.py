"""Patches of pictures and clips in about their own shape, in the order in which a connector merges them."""

from __future__ import annotations

import math
from typing import final

import numpy as np
from jaxtyping import UInt8

from ..core import ConfigError, DataError
from .geometry import ClipStep, check_sides, checked_filter, resized

_LONGEST_SHAPE = 200  # times the shorter side
_MOST_BYTES = 1 << 31  # of one clip
_SECOND = 1_000_000_000  # nanoseconds
_SHARE = 0.9  # of a context that frames may fill
_SPARE = 1.05  # of the fewest pixels, which every frame of a clip may have


@final
class MergedPatches(ClipStep):
    """Patches of the whole picture or clip (Qwen2-VL, Wang et al. 2024, arXiv:2409.12191; Qwen2.5-VL, Bai et al. 2025,
    arXiv:2502.13923).

    Sides are rounded to multiples of ``merge`` patches of ``patch`` pixels, and scaled so that a picture has ``least``
    to ``most`` pixels; of a clip each frame, which together fill at most nine tenths of a context of ``tokens``, if
    given. ``frames`` consecutive frames are one patch: a picture is repeated, and so is the last frame of a clip that
    lacks some. A row of the result is one patch, uint8 [frames * patch * patch * 3], channels last; the rows that will
    be merged, ``merge`` x ``merge`` of them, follow each other. The layout is time, rows and columns in patches; if
    ``timed``, that of a clip has the nanoseconds of one step of time besides. Shapes longer than 200 times their width
    are a DataError.
    """

    def __init__(
        self,
        *,
        patch: int = 14,
        merge: int = 2,
        frames: int = 2,
        least: int = 56 * 56,
        most: int = 28 * 28 * 1280,
        tokens: int | None = None,
        resample: str = "bicubic",
        timed: bool = False,
    ) -> None:
        check_sides("MergedPatches", patch=patch, merge=merge, frames=frames, least=least)
        self.resample = checked_filter("MergedPatches", resample)
        if most < least:
            raise ConfigError(f"MergedPatches.most must be at least {least}, found {most}")
        if tokens is not None and tokens < 1:
            raise ConfigError(f"MergedPatches.tokens must be at least 1, found {tokens}")
        self.patch, self.merge, self.frames = patch, merge, frames
        self.least, self.most, self.tokens, self.timed = least, most, tokens, timed
        # frames of films are reduced to twice the side: no fewer pixels than are wanted
        self.side = math.ceil(math.sqrt(most) / 2)
        self.shape = (merge * merge, frames * patch * patch * 3)

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "patches bytes"]:
        height, width = self.size(*picture.shape[:2])
        shown = resized(picture, height, width, self.resample)
        return self._patches(np.broadcast_to(shown, (self.frames, height, width, 3)))

    def layout(self, height: int, width: int) -> tuple[int, int, int]:
        rows, columns = self.size(height, width)
        return 1, rows // self.patch, columns // self.patch

    def clip(self, frames: UInt8[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "patches bytes"]:
        count = math.ceil(len(frames) / self.frames) * self.frames
        height, width = self._frame(*frames.shape[:3])
        if count * height * width * 3 > _MOST_BYTES:
            raise DataError(
                f"the {len(frames)} frames would become {width} x {height} pixels each, "
                f"the limit is {_MOST_BYTES >> 20:,} MiB in all"
            )
        shown = np.empty((count, height, width, 3), np.uint8)
        for place, frame in enumerate(frames):
            shown[place] = resized(frame, height, width, self.resample)
        shown[len(frames) :] = shown[len(frames) - 1]
        return self._patches(shown)

    def clip_layout(self, frames: int, height: int, width: int, rate: float = 1.0) -> tuple[int, ...]:
        rows, columns = self._frame(frames, height, width)
        grid = math.ceil(frames / self.frames), rows // self.patch, columns // self.patch
        # rounded up: of thirds of a second, three are one
        return (*grid, math.ceil(self.frames / rate * _SECOND)) if self.timed else grid

    def size(self, height: int, width: int, most: int | None = None) -> tuple[int, int]:
        """Height and width in pixels of a picture that has this height and width, with at most ``most`` pixels.

        Raises DataError for one that is too long and thin.
        """
        most = self.most if most is None else most
        if max(height, width) > _LONGEST_SHAPE * min(height, width):
            raise DataError(
                f"the picture of {width} x {height} pixels is too long and thin: "
                f"one side has more than {_LONGEST_SHAPE} times the other"
            )
        unit = self.patch * self.merge
        rounded = round(height / unit) * unit, round(width / unit) * unit
        if math.prod(rounded) > most:
            scale = math.sqrt(height * width / most)
            return self._down(height / scale), self._down(width / scale)
        if math.prod(rounded) < self.least:
            scale = math.sqrt(self.least / (height * width))
            return math.ceil(height * scale / unit) * unit, math.ceil(width * scale / unit) * unit
        return rounded

    def _frame(self, frames: int, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels of each of so many frames."""
        most = self.most
        if self.tokens is not None:
            pixels = int(self.tokens * (self.patch * self.merge) ** 2 * _SHARE)
            most = max(min(most, pixels * self.frames // frames), int(self.least * _SPARE))
        return self.size(height, width, most)

    def _down(self, length: float) -> int:
        unit = self.patch * self.merge
        return max(unit, math.floor(length / unit) * unit)

    def _patches(self, shown: UInt8[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "patches bytes"]:
        count, height, width = shown.shape[:3]
        patch, merge = self.patch, self.merge
        unit = patch * merge
        split = shown.reshape(
            count // self.frames, self.frames, height // unit, merge, patch, width // unit, merge, patch, 3
        )
        # time, block row, block column, row and column within it; then frame, pixel row and column, channel
        ordered = split.transpose(0, 2, 5, 3, 6, 1, 4, 7, 8)
        return ordered.reshape(-1, self.frames * patch * patch * 3)
