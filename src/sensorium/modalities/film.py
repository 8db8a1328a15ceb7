"""Frames of MP4, WebM and MPEG films by PyAV: only the wanted ones are decoded where the file tells when each is."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from ..core import CapabilityError, DataError
from .clips import Clip, Limits, Sampler, check_count, check_kept
from .image import check_pixels

_DEFAULT_RATE = 10.0  # frames per second of a film that names no rate
_FASTEST = 240  # frames per second, to bound films without usable times
_STEPS = 16  # frames that are decoded rather than skipped: a jump takes time as well


def decode_film(handle: BinaryIO, kind: str, limits: Limits) -> Clip:
    """The frames that ``limits.sampling`` chooses of a film, read by FFmpeg's demuxer ``kind`` and no other.

    The packets are counted first, which decodes nothing: the limits are checked on that. Raises DataError for anything
    damaged or beyond the limits, and CapabilityError if PyAV is absent or lacks the code.
    """
    try:
        import av
    except ImportError:
        raise CapabilityError("MP4, WebM and MPEG films need PyAV: pip install sensorium[video]") from None
    try:
        with av.open(handle, "r", format=kind, metadata_errors="replace") as container:
            stream = _stream(container)
            if stream.width and stream.height:
                check_pixels((stream.width, stream.height), limits.pixels)
            limits.check_duration((container.duration or 0) / av.time_base)
            rate = float(stream.average_rate or stream.guessed_rate or 0) or _DEFAULT_RATE
            index = _index(container, stream, limits, rate)
        handle.seek(0)
        with av.open(handle, "r", format=kind, metadata_errors="replace") as container:
            reader = _Reader(container, _stream(container), limits)
            return reader.every(rate) if index is None else reader.chosen(index, rate)
    except (av.FFmpegError, ValueError, TypeError, LookupError, RuntimeError, OverflowError, MemoryError):
        raise DataError("the film is truncated or damaged") from None


def _stream(container: Any) -> Any:
    if not container.streams.video:
        raise DataError("the file has no film in it")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise DataError("the film is in a code that this installation of PyAV cannot decode")
    stream.codec_context.thread_count = 1  # a loader runs one process per core
    return stream


@dataclass(frozen=True)
class _Index:
    """When each frame is shown, in the stream's unit, and which of them decoding can start with."""

    times: Sequence[int]
    starts: Sequence[int]


def _index(container: Any, stream: Any, limits: Limits, rate: float) -> _Index | None:
    """None if the packets do not tell the time of every frame."""
    found: dict[int | None, bool] = {}
    count = 0
    for packet in container.demux(stream):
        if packet.size and not packet.is_discard:
            found[packet.pts] = packet.is_keyframe
            count += 1
            check_count(count, limits.count)
    limits.check_duration(count / max(rate, _FASTEST))
    times = sorted(time for time in found if time is not None)
    if len(times) != count or not times or not found[times[0]]:
        return None
    limits.check_duration(float((times[-1] - times[0]) * stream.time_base))
    return _Index(times, [place for place, time in enumerate(times) if found[time]])


class _Reader:
    """Decodes the frames of one open film."""

    def __init__(self, container: Any, stream: Any, limits: Limits) -> None:
        self.container, self.stream, self.limits = container, stream, limits
        self.frames = container.decode(stream)

    def every(self, rate: float) -> Clip:
        """By decoding all of them, of which few are kept."""
        sampler = Sampler(self.limits)
        for frame in self.frames:
            check_pixels((frame.width, frame.height), self.limits.pixels)
            sampler.offer(frame.width, frame.height, partial(_picture, frame))
            self.limits.check_duration(sampler.count / min(rate, _FASTEST))
        return sampler.clip(rate)

    def chosen(self, index: _Index, rate: float) -> Clip:
        """By jumping to where decoding can start before each of them."""
        places = self.limits.sampling.places(len(index.times), rate)
        kept: list[np.ndarray] = []
        frame, here, size = None, 0, None
        for place in places:
            start = index.starts[bisect_right(index.starts, place) - 1]
            if start - here > _STEPS:
                frame = self._jump(index.times[start])
                if frame.pts > index.times[place]:  # the file's own table of places is off
                    frame = self._jump(index.times[0])
            while frame is None or frame.pts < index.times[place]:
                frame = self._next()
            here = place
            if size is None:  # later frames follow the first
                size = self.limits.reduced(frame.width, frame.height)
                check_kept(len(places), *size)
            kept.append(_picture(frame, *size))
        return Clip(np.stack(kept), rate * len(kept) / len(index.times))

    def _jump(self, time: int) -> Any:
        self.container.seek(time, stream=self.stream)
        self.frames = self.container.decode(self.stream)
        return self._next()

    def _next(self) -> Any:
        frame = next(self.frames, None)
        if frame is None:
            raise DataError("the film is truncated or damaged: it ends before its last frame")
        check_pixels((frame.width, frame.height), self.limits.pixels)
        return frame


def _picture(frame: Any, width: int, height: int) -> np.ndarray:
    pixels = frame.reformat(width, height, format="rgb24", interpolation="BICUBIC").to_ndarray()
    return np.rot90(pixels, frame.rotation // 90)  # as phones record it: turned, with a note to turn it back
