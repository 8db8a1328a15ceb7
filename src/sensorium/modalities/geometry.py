"""From a picture of any size to the one that an encoder takes: small steps, all on bytes, computed by Pillow.

The steps of public checkpoints give the same bytes as the Pillow processors of transformers, which that library uses
where torchvision is absent. Its torchvision processors differ: they resize bytes with torch's antialiased kernels,
whose fixed-point weights are coarser (on noise, up to 1 level of 255 apart with bilinear and 2 with bicubic weights, in
less than 1 % of the values; measured with torch 2.13), and where a picture is smaller than the crop by an odd number of
pixels, they put it one pixel further up or to the left.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from typing import final

import numpy as np
from jaxtyping import UInt8

from ..core import ConfigError, DataError, nearest

RESAMPLE = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # in the order of Pillow's numbers
_MOST_PIXELS = 1 << 26  # that a step may make of a long thin strip
_LONGEST = 4096  # pixels of the longer side that `LongestEdge` ever makes
_PRECISION = 1e-5  # of the scale that the search of `NativePatches` ends with
_LARGEST_SCALE = 100.0


class Step(abc.ABC):
    """One step from a picture uint8 [h, w, 3] to what an encoder takes.

    ``side`` is the length in pixels, of the shorter side, that it works towards. ``reduced`` says that a JPEG may be
    decoded at a smaller scale. ``shape`` is that of the result, where it is the same for every picture (its first
    axis at the shortest), else None. What has another number of axes than a picture is in pieces, and comes last.
    """

    side: int
    reduced: bool = False
    shape: tuple[int, ...] | None = None

    @abc.abstractmethod
    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "..."]:
        """The result for one picture. Raises DataError for one so long and thin that the result is too large."""

    def layout(self, height: int, width: int) -> tuple[int, ...] | None:
        """What the number of pieces of a picture of this size does not tell (see ``Modality.layout``)."""
        return None


class ClipStep(Step):
    """A step that takes all frames of a clip together; ``shape`` holds for clips as well."""

    @abc.abstractmethod
    def clip(self, frames: UInt8[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "..."]:
        """The result for a clip. Raises DataError for one that is too large."""

    @abc.abstractmethod
    def clip_layout(self, frames: int, height: int, width: int, rate: float = 1.0) -> tuple[int, ...]:
        """What the number of pieces of such a clip, of ``rate`` frames per second, does not tell."""


@final
class CentralSquare(Step):
    """The largest square in the middle, resized to ``size`` pixels (antialiased bicubic).

    JPEGs are decoded at a reduced scale and large pictures are first shrunk by whole factors, which is several times
    faster. That is our own rule; those of public checkpoints are below.
    """

    reduced = True

    def __init__(self, *, size: int) -> None:
        check_sides("CentralSquare", size=size)
        self.side, self.shape = size, (size, size, 3)

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "size size 3"]:
        from PIL import Image

        height, width = picture.shape[:2]
        if height == width == self.side:
            return picture
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        shown = Image.fromarray(picture)
        size = (self.side, self.side)
        return np.asarray(shown.resize(size, Image.Resampling.BICUBIC, box=box, reducing_gap=3.0))


@final
class Resize(Step):
    """The whole picture at ``height`` x ``width`` pixels, whatever its shape was (SigLIP, ViT, BEiT, ALIGN)."""

    def __init__(self, *, height: int, width: int, resample: str = "bicubic") -> None:
        check_sides("Resize", height=height, width=width)
        self.resample = checked_filter("Resize", resample)
        self.height, self.width = height, width
        self.side, self.shape = min(height, width), (height, width, 3)

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "height width 3"]:
        return resized(picture, self.height, self.width, self.resample)


@final
class ShortestEdge(Step):
    """The whole picture in its own shape, the shorter side ``size`` pixels long (CLIP, DINOv2, BiT, VideoMAE).

    The longer side is cut to whole pixels, not rounded.
    """

    def __init__(self, *, size: int, resample: str = "bicubic") -> None:
        check_sides("ShortestEdge", size=size)
        self.resample = checked_filter("ShortestEdge", resample)
        self.side = size

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "height width 3"]:
        height, width = picture.shape[:2]
        longer = int(self.side * max(height, width) / min(height, width))
        size = (longer, self.side) if width <= height else (self.side, longer)
        return resized(picture, *size, self.resample)


@final
class LongestEdge(Step):
    """The whole picture in its own shape, the longer side ``size`` pixels long, but never more than 4,096
    (Idefics3, SmolVLM). The shorter side is made even first.
    """

    def __init__(self, *, size: int, resample: str = "lanczos") -> None:
        check_sides("LongestEdge", size=size)
        self.resample = checked_filter("LongestEdge", resample)
        self.side, self.longest = min(size, _LONGEST), size

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "height width 3"]:
        return resized(picture, *self.size(*picture.shape[:2]), self.resample)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that a picture of this height and width gets."""
        height, width = self._scaled(height, width, self.longest, 2)
        if max(height, width) > _LONGEST:
            height, width = self._scaled(height, width, _LONGEST, 1)
        return height, width

    @staticmethod
    def _scaled(height: int, width: int, longer: int, multiple: int) -> tuple[int, int]:
        ratio = width / height
        shorter = int(longer / ratio) if width >= height else int(longer * ratio)
        shorter = max(1, shorter + shorter % multiple)
        return (shorter, longer) if width >= height else (longer, shorter)


@final
class PadSquare(Step):
    """The whole picture in the middle of a square of one ``colour``, three bytes (LLaVA)."""

    def __init__(self, *, colour: list[int]) -> None:
        if len(colour) != 3 or not all(0 <= level <= 255 for level in colour):
            raise ConfigError(f"PadSquare.colour must be three bytes, found {colour}")
        self.colour, self.side = colour, 1

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "side side 3"]:
        height, width = picture.shape[:2]
        side = max(height, width)
        check_result(picture, side, side)
        whole = np.empty((side, side, 3), np.uint8)
        whole[:] = self.colour
        top, left = (side - height) // 2, (side - width) // 2
        whole[top : top + height, left : left + width] = picture
        return whole


@final
class CentreCrop(Step):
    """The middle ``height`` x ``width`` pixels; what a smaller picture lacks is black."""

    def __init__(self, *, height: int, width: int) -> None:
        check_sides("CentreCrop", height=height, width=width)
        self.height, self.width = height, width
        self.side, self.shape = min(height, width), (height, width, 3)

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "height width 3"]:
        rows, down = _middle(picture.shape[0], self.height)
        columns, right = _middle(picture.shape[1], self.width)
        kept = picture[rows, columns]
        if kept.shape[:2] == (self.height, self.width):
            return kept
        whole = np.zeros((self.height, self.width, 3), np.uint8)
        whole[down : down + kept.shape[0], right : right + kept.shape[1]] = kept
        return whole


@final
class NativePatches(Step):
    """Patches of the whole picture in about its own shape, as many as fit into ``most`` (NaFlex of SigLIP 2,
    Tschannen et al. 2025, arXiv:2502.14786).

    The picture is resized to the largest multiple of ``patch`` pixels, up or down, that keeps its shape and has at
    most that many patches. A row of the result is one patch, row by row, then its place: row and column as two
    16-bit numbers, low byte first. ``nn.encoders.pixels.split_places`` takes the two apart.
    """

    def __init__(self, *, patch: int = 16, most: int = 256, resample: str = "bilinear") -> None:
        check_sides("NativePatches", patch=patch, most=most)
        if most > 1 << 16:
            raise ConfigError(f"NativePatches.most must be at most {1 << 16}, found {most}")
        self.resample = checked_filter("NativePatches", resample)
        self.patch, self.most = patch, most
        self.side, self.shape = patch, (1, patch * patch * 3 + 4)

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "patches bytes"]:
        height, width = self.size(*picture.shape[:2])
        picture = resized(picture, height, width, self.resample)
        rows, columns = height // self.patch, width // self.patch
        split = picture.reshape(rows, self.patch, columns, self.patch, 3).swapaxes(1, 2)
        places = np.stack(np.divmod(np.arange(rows * columns), columns), -1).astype("<u2").view(np.uint8)
        return np.concatenate([split.reshape(rows * columns, -1), places], axis=1)

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width in pixels, multiples of the patch, of a picture that has this height and width."""

        def scaled(scale: float) -> tuple[int, int]:
            sides = (max(1, math.ceil(side * scale / self.patch)) for side in (height, width))
            rows, columns = sides
            return rows, columns

        low, high = _PRECISION / 10, _LARGEST_SCALE
        while high - low >= _PRECISION:
            middle = (low + high) / 2
            if math.prod(scaled(middle)) <= self.most:
                low = middle
            else:
                high = middle
        rows, columns = scaled(low)
        return rows * self.patch, columns * self.patch


def chosen_steps(
    owner: str, size: int | None, default: int, geometry: Step | Sequence[Step] | None
) -> tuple[Step, ...]:
    """The steps of a modality that takes ``size`` or ``geometry``, by default the central square.

    Raises ConfigError, naming ``owner``, for both, or for steps that leave pictures of different sizes.
    """
    if size is not None and size < 1:
        raise ConfigError(f"{owner}.size must be at least 1 pixel, found {size}")
    if geometry is None:
        return (CentralSquare(size=default if size is None else size),)
    if size is not None:
        raise ConfigError(f"{owner}: give size or geometry, not both")
    steps = (geometry,) if isinstance(geometry, Step) else tuple(geometry)
    if not steps or steps[-1].shape is None:
        raise ConfigError(
            f"{owner}.geometry must end in a step that makes all pictures alike "
            f"(CentralSquare, Resize, CentreCrop, patches or tiles), found {_names(steps)}"
        )
    for step in steps[:-1]:
        if step.shape is not None and len(step.shape) != 3:
            raise ConfigError(
                f"{owner}.geometry: nothing can follow {type(step).__name__}, found {_names(steps)}"
            )
    return steps


def result_shape(steps: Sequence[Step]) -> tuple[int, ...]:
    """That of what ``apply_steps`` returns, the first axis at its shortest."""
    shape = steps[-1].shape
    assert shape is not None  # by chosen_steps
    return shape


def apply_steps(steps: Sequence[Step], picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "..."]:
    """One step after the other."""
    for step in steps:
        picture = step(picture)
    return picture


def apply_to_clip(steps: Sequence[Step], frames: UInt8[np.ndarray, "t h w 3"]) -> UInt8[np.ndarray, "..."]:
    """One step after the other on each frame, and the last on all together if it takes clips."""
    last = steps[-1]
    if not isinstance(last, ClipStep):
        return np.stack([apply_steps(steps, frame) for frame in frames])
    return last.clip(np.stack([apply_steps(steps[:-1], frame) for frame in frames]))


def clip_layout(
    steps: Sequence[Step], frames: int, picture: UInt8[np.ndarray, "h w 3"], rate: float
) -> tuple[int, ...] | None:
    """The layout of what ``apply_to_clip`` returns, for so many frames like ``picture``, ``rate`` of them a second."""
    last = steps[-1]
    if not isinstance(last, ClipStep):
        return None
    height, width = apply_steps(steps[:-1], picture).shape[:2]
    return last.clip_layout(frames, height, width, rate)


def steps_layout(steps: Sequence[Step], picture: UInt8[np.ndarray, "h w 3"]) -> tuple[int, ...] | None:
    """The layout of the pieces that ``apply_steps`` returns."""
    height, width = apply_steps(steps[:-1], picture).shape[:2]
    return steps[-1].layout(height, width)


def resized(
    picture: UInt8[np.ndarray, "h w 3"], height: int, width: int, resample: str
) -> UInt8[np.ndarray, "height width 3"]:
    """``picture`` at another size. Raises DataError for a size beyond 64 million pixels."""
    from PIL import Image

    check_result(picture, height, width)
    filter_ = Image.Resampling[resample.upper()]
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), filter_))


def check_result(picture: UInt8[np.ndarray, "h w 3"], height: int, width: int) -> None:
    """Raise DataError if ``picture`` would become one of more than 64 million pixels."""
    if height * width > _MOST_PIXELS:
        raise DataError(
            f"the picture of {picture.shape[1]} x {picture.shape[0]} pixels is too long and thin: "
            f"it would become {width} x {height}"
        )


def _middle(length: int, wanted: int) -> tuple[slice, int]:
    """Which of ``length`` pixels are in the middle ``wanted``, and after how many empty ones they begin."""
    if length >= wanted:
        start = (length - wanted) // 2
        return slice(start, start + wanted), 0
    return slice(None), (wanted - length + 1) // 2


def checked_filter(owner: str, resample: str) -> str:
    """``resample``. Raises ConfigError, naming ``owner``, for no filter of ``RESAMPLE``."""
    if resample not in RESAMPLE:
        raise ConfigError(f"{owner}.resample: there is no filter {resample!r}{nearest(resample, RESAMPLE)}")
    return resample


def check_sides(owner: str, **sides: int) -> None:
    """Raise ConfigError, naming ``owner`` and the side, for one below 1."""
    for name, value in sides.items():
        if value < 1:
            raise ConfigError(f"{owner}.{name} must be at least 1, found {value}")


def _names(steps: Sequence[Step]) -> str:
    return ", then ".join(type(step).__name__ for step in steps) or "no step"
