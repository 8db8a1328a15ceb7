"""Decoding a film and keeping frames spread evenly over it, in bounded memory and one pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from ..core import CapabilityError, DataError
from .files import beginning, peek
from .image import check_pixels, open_picture
from .pixels import decoding, rgb

_SPARE = 8  # frames kept while decoding, for each that is wanted
_LONGEST_SHAPE = 16  # strips longer than this are reduced further
_DEFAULT_RATE = 10.0  # frames per second of an animation that names no durations
_ANIMATED_PIXELS = 100  # an animation's frames may have this many times `max_pixels` together
_FASTEST = 240  # frames per second, to bound films without usable times


@dataclass(frozen=True)
class Clip:
    """``frames`` uint8 [n, h, w, 3] at ``rate`` frames per second."""

    frames: np.ndarray
    rate: float


@dataclass(frozen=True)
class Limits:
    """What is decoded: ``frames`` of at least ``side`` pixels, from a film within the other two limits."""

    frames: int
    side: int
    pixels: int
    seconds: float


def decode(handle: BinaryIO, limits: Limits) -> Clip:
    """Evenly spread frames of an animated GIF or WebP, or of an MP4, WebM or MPEG file.

    Frames are reduced to the wanted size. Raises DataError for anything damaged or beyond the limits, and
    CapabilityError if PyAV is needed and absent.
    """
    head = peek(handle)
    if head.startswith(b"GIF8") or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        return _animation(handle, limits)
    # The content names the one demuxer that may run: FFmpeg's own guess includes playlists,
    # which open other files.
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        _check_boxes(handle)
        return _film(handle, "mov", limits)
    if head.startswith(b"\x1aE\xdf\xa3"):
        return _film(handle, "matroska", limits)
    if head.startswith(b"\0\0\1\xba"):
        return _film(handle, "mpeg", limits)
    raise DataError(f"not an MP4, WebM, MPEG, GIF or WebP file: {beginning(head)}")


def spread(count: int, wanted: int, *, fill: bool = False) -> list[int]:
    """The middles of ``wanted`` equal parts of ``count`` frames.

    If there are not so many: all frames once, or with ``fill`` some of them more than once.
    """
    if count <= wanted and not fill:
        return list(range(count))
    return [(2 * part + 1) * count // (2 * wanted) for part in range(wanted)]


class _Sampler:
    """Every ``stride``-th frame of a stream of unknown length; the stride doubles when the store is full."""

    def __init__(self, limits: Limits) -> None:
        self.wanted, self.side = limits.frames, limits.side
        self.kept: list[np.ndarray] = []
        self.size: tuple[int, int] | None = None
        self.stride, self.count = 1, 0

    def offer(self, width: int, height: int, convert: Callable[[int, int], np.ndarray]) -> None:
        """Count a frame and, if its turn has come, keep ``convert(width, height)`` at the reduced size."""
        if len(self.kept) > _SPARE * self.wanted:
            self.kept = self.kept[::2]
            self.stride *= 2
        if self.count % self.stride == 0:
            if self.size is None:  # later frames follow the first
                self.size = _reduced(width, height, self.side)
            self.kept.append(convert(*self.size))
        self.count += 1

    def clip(self, rate: float) -> Clip:
        """The wanted frames, of a film at ``rate`` frames per second."""
        if not self.kept:
            raise DataError("the film has no frames that can be decoded")
        last = len(self.kept) - 1
        chosen = [self.kept[min(place // self.stride, last)] for place in spread(self.count, self.wanted)]
        return Clip(np.stack(chosen), rate * len(chosen) / self.count)


def _reduced(width: int, height: int, side: int) -> tuple[int, int]:
    scale = min(1.0, side / min(width, height), _LONGEST_SHAPE * side / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _animation(handle: BinaryIO, limits: Limits) -> Clip:
    picture = open_picture(handle, limits.pixels, ("GIF", "WEBP"))
    sampler, milliseconds, pixels = _Sampler(limits), 0.0, 0
    with decoding(f"{picture.format} data"):
        while True:
            try:
                picture.seek(sampler.count)
            except EOFError:
                break
            check_pixels(picture.size, limits.pixels)
            pixels += picture.width * picture.height
            if pixels > _ANIMATED_PIXELS * limits.pixels:
                raise DataError(
                    f"the animation has more than {_ANIMATED_PIXELS * limits.pixels:,} pixels in all"
                )
            picture.load()  # a frame's duration may be known only then
            sampler.offer(picture.width, picture.height, partial(_still, picture))
            milliseconds += picture.info.get("duration", 0)
            _check_duration(milliseconds / 1000, limits)
    return sampler.clip(1000 * sampler.count / milliseconds if milliseconds else _DEFAULT_RATE)


def _still(picture: Any, width: int, height: int) -> np.ndarray:
    from PIL import Image

    pixels = rgb(picture)
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.array(
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    )


def _film(handle: BinaryIO, kind: str, limits: Limits) -> Clip:
    try:
        import av
    except ImportError:
        raise CapabilityError("MP4, WebM and MPEG films need PyAV: pip install sensorium[video]") from None
    sampler = _Sampler(limits)
    try:
        with av.open(handle, "r", format=kind, metadata_errors="replace") as container:
            if not container.streams.video:
                raise DataError("the file has no film in it")
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise DataError("the film is in a code that this installation of PyAV cannot decode")
            stream.codec_context.thread_count = 1  # a loader runs one process per core
            if stream.width and stream.height:
                check_pixels((stream.width, stream.height), limits.pixels)
            _check_duration((container.duration or 0) / av.time_base, limits)
            rate = float(stream.average_rate or stream.guessed_rate or 0) or _DEFAULT_RATE
            for frame in container.decode(stream):
                check_pixels((frame.width, frame.height), limits.pixels)
                sampler.offer(frame.width, frame.height, partial(_picture, frame))
                _check_duration(sampler.count / min(rate, _FASTEST), limits)
            return sampler.clip(rate)
    except (av.FFmpegError, ValueError, TypeError, LookupError, RuntimeError, OverflowError, MemoryError):
        raise DataError(f"the film is truncated or damaged (frame {sampler.count + 1})") from None


def _picture(frame: Any, width: int, height: int) -> np.ndarray:
    pixels = frame.reformat(width, height, format="rgb24", interpolation="BICUBIC").to_ndarray()
    return np.rot90(pixels, frame.rotation // 90)  # as phones record it: turned, with a note to turn it back


def _check_duration(seconds: float, limits: Limits) -> None:
    if seconds > limits.seconds:
        raise DataError(f"the film lasts {seconds:,.1f} s or more, the limit is {limits.seconds:g} s")


def _check_boxes(handle: BinaryIO) -> None:
    """Raise DataError if an MP4 file ends inside one of its parts: FFmpeg would decode what there is."""
    end, place = handle.seek(0, 2), 0
    while place + 8 <= end:
        handle.seek(place)
        box = handle.read(16)
        length = int.from_bytes(box[:4])
        if length == 1:
            length = int.from_bytes(box[8:16])
        if length < 8:  # 0: up to the end of the file
            break
        if place + length > end:
            raise DataError(
                f"the film is cut short: part {box[4:8]!r} declares {length:,} of {end - place:,} bytes"
            )
        place += length
    handle.seek(0)
