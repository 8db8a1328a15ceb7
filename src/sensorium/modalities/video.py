"""Films and animations, as a few frames spread evenly over them."""

from __future__ import annotations

import io
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..core import ConfigError, DataError, Modality
from . import html
from .files import GIB, is_source, open_source
from .frames import Clip, Limits, decode, spread
from .image import check_pixels
from .pixels import augment, normaliser, rgb_array, square

_LEAST_SIDE = 256  # pixels: frames are never decoded smaller than is good to look at


@final
class Video(Modality):
    """Films as ``frames`` normalised squares, the middles of equal parts; a shorter film keeps all it has.

    ``read`` gives a ``Clip`` of those frames only: animated GIF and WebP by Pillow, MP4, WebM and MPEG by
    PyAV (``pip install sensorium[video]``). Large frames are reduced while decoding. ``prepare`` resizes the
    central squares to ``size`` pixels and returns ``(value / 255 - mean) / std`` as float32
    [frames, size, size, 3]. In training, ``flip`` mirrors half of the clips and ``shift`` moves them by up
    to that many pixels, all frames alike. Films of more than ``max_pixels`` per frame, or longer than
    ``max_seconds``, are refused.
    """

    name: ClassVar[str] = "video"
    extensions: ClassVar[tuple[str, ...]] = (".mp4", ".m4v", ".mov", ".webm", ".mpg", ".mpeg", ".gif")

    def __init__(
        self,
        *,
        frames: int = 8,
        size: int = 32,
        mean: float | list[float] = 0.5,
        std: float | list[float] = 0.5,
        flip: bool = False,
        shift: int = 0,
        max_pixels: int = 40_000_000,
        max_seconds: float = 600.0,
        max_bytes: int = 2 * GIB,
    ) -> None:
        if frames < 1 or size < 1:
            raise ConfigError(f"Video: frames and size must be at least 1, found {frames} and {size}")
        if not 0 <= shift < size:
            raise ConfigError(f"Video.shift must be from 0 to {size - 1} pixels, found {shift}")
        self.frames, self.side, self.flip, self.shift = frames, size, flip, shift
        self.max_pixels, self.max_seconds, self.max_bytes = max_pixels, max_seconds, max_bytes
        self._normalise = normaliser("Video", mean, std)

    @property
    def draws(self) -> bool:
        """Whether training augments."""
        return self.flip or self.shift > 0

    def read(self, source: Any) -> Clip:
        """A ``Clip`` from a path, a file's bytes, a ``Clip``, ``(array, frames per second)`` or an array.

        The array is [n, h, w, 3]; alone, it is taken as one frame per second. Raises DataError for anything
        missing, damaged or beyond the limits, CapabilityError if PyAV is needed and absent.
        """
        if is_source(source):
            limits = Limits(self.frames, max(2 * self.side, _LEAST_SIDE), self.max_pixels, self.max_seconds)
            with open_source(source, self.max_bytes) as handle:
                return decode(handle, limits)
        if isinstance(source, Clip):
            return source
        values, rate = source if isinstance(source, tuple) and len(source) == 2 else (source, 1.0)
        if isinstance(values, Tensor):
            values = values.detach().cpu().numpy()
        if not isinstance(values, np.ndarray) or not isinstance(rate, int | float):
            raise DataError(f"expected a path, bytes or frames, found {type(source).__name__}")
        if values.ndim != 4:
            raise DataError(
                f"expected frames [frames, height, width, 3], found the shape {list(values.shape)}"
            )
        return Clip(rgb_array(values), float(rate))

    def check(self, raw: Clip) -> None:
        """Raise DataError unless there are frames as uint8 [n, h, w, 3] and a rate."""
        frames = raw.frames
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) == 0:
            raise DataError(
                f"expected frames as uint8 [frames, height, width, 3], "
                f"found {frames.dtype} of the shape {list(frames.shape)}"
            )
        check_pixels((frames.shape[2], frames.shape[1]), self.max_pixels)
        if not 0 < raw.rate < float("inf"):
            raise DataError(f"expected a rate above 0 frames per second, found {raw.rate:g}")

    def prepare(
        self, raw: Clip, generator: torch.Generator | None = None
    ) -> Float[Tensor, "frames size size 3"]:
        """The normalised central squares, float32 [frames, size, size, 3]."""
        chosen = [square(raw.frames[place], self.side) for place in spread(len(raw.frames), self.frames)]
        values = self._normalise(np.stack(chosen))
        if generator is None:
            return values
        return augment(values, flip=self.flip, shift=self.shift, generator=generator)

    def blank(self) -> Float[Tensor, "1 size size 3"]:
        """One grey frame."""
        return torch.zeros(1, self.side, self.side, 3)

    def size(self, raw: Clip) -> tuple[float, str]:
        """The number of frames kept."""
        return float(len(raw.frames)), "frames"

    def show(self, raw: Clip) -> str:
        """An animated ``<img>`` at the true speed."""
        pictures = [html.shrunk(frame) for frame in raw.frames]
        buffer = io.BytesIO()
        pause = max(1, round(1000 / raw.rate))
        pictures[0].save(buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=pause, loop=0)
        source = html.data_uri("image/webp", buffer.getvalue())
        return f'<img src="{source}" alt="video, {len(pictures)} frames, {len(pictures) / raw.rate:.2f} s">'
