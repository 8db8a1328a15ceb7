"""Decoding a film and keeping the frames that are wanted, in bounded memory."""

from __future__ import annotations

from functools import partial
from typing import Any, BinaryIO

import numpy as np

from ..core import DataError
from .clips import Clip, Limits, Sampler
from .files import beginning, peek
from .film import decode_film
from .image import check_pixels, open_picture
from .pixels import decoding, rgb

_DEFAULT_RATE = 10.0  # frames per second of an animation that names no durations
_ANIMATED_PIXELS = 100  # an animation's frames may have this many times `max_pixels` together


def decode(handle: BinaryIO, limits: Limits) -> Clip:
    """The chosen frames of an animated GIF or WebP, or of an MP4, WebM or MPEG file.

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
        return decode_film(handle, "mov", limits)
    if head.startswith(b"\x1aE\xdf\xa3"):
        return decode_film(handle, "matroska", limits)
    if head.startswith(b"\0\0\1\xba"):
        return decode_film(handle, "mpeg", limits)
    raise DataError(f"not an MP4, WebM, MPEG, GIF or WebP file: {beginning(head)}")


def _animation(handle: BinaryIO, limits: Limits) -> Clip:
    picture = open_picture(handle, limits.pixels, ("GIF", "WEBP"))
    sampler, milliseconds, pixels = Sampler(limits), 0.0, 0
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
            limits.check_duration(milliseconds / 1000)
    return sampler.clip(1000 * sampler.count / milliseconds if milliseconds else _DEFAULT_RATE)


def _still(picture: Any, width: int, height: int) -> np.ndarray:
    from PIL import Image

    pixels = rgb(picture)
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.array(
        Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)
    )


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
