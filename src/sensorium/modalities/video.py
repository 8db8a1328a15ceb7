"""Films and animations, as a few frames spread evenly over them."""

from __future__ import annotations

import io
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..core import ConfigError, DataError, Modality
from . import html
from .clips import Clip, Limits, check_count
from .files import GIB, is_source, open_source
from .frames import decode
from .geometry import ClipStep, Step, apply_to_clip, chosen_steps, clip_layout, result_shape
from .image import check_pixels
from .pixels import augment, check_augmentation, normaliser, rgb_array, undone
from .sampling import Evenly, Sampling

_SHOWN_RATE = 4.0  # frames per second of what a network restored
_SIZE = 32  # pixels, if nothing is said
_LEAST_SIDE = 256  # pixels: frames are never decoded smaller than is good to look at


@final
class Video(Modality):
    """Films as ``frames`` pictures of one size, the middles of equal parts.

    A shorter film keeps all the frames it has; with ``fill`` they are repeated, for networks that need their number.
    ``sampling`` is another rule, in place of both.

    ``read`` gives a ``Clip`` of those frames only: animated GIF and WebP by Pillow, MP4, WebM and MPEG by
    PyAV (``pip install sensorium[video]``). Frames more than twice larger than needed are reduced while decoding.
    ``prepare`` takes each through the ``geometry``, steps that end in one size (by default the central square of
    ``size`` pixels, 32 if not given), and returns ``(value / 255 - mean) / std`` as float32
    [frames, rows, columns, 3], or the bytes as they are if ``mean`` is None, as networks of public
    checkpoints take them. Given frames are prepared as those checkpoints' processors do, frame for frame. In
    training, ``flip`` mirrors half of the clips and ``shift`` moves them by up to that many pixels, all frames alike.
    With ``MergedPatches`` as the last step, clips are patches in their own shape. Films of more than ``max_pixels`` per
    frame, longer than ``max_seconds`` or of more than ``max_frames`` are refused before they are decoded.
    """

    name: ClassVar[str] = "video"
    extensions: ClassVar[tuple[str, ...]] = (".mp4", ".m4v", ".mov", ".webm", ".mpg", ".mpeg", ".gif")

    def __init__(
        self,
        *,
        frames: int = 8,
        size: int | None = None,
        geometry: Step | list[Step] | None = None,
        mean: float | list[float] | None = 0.5,
        std: float | list[float] = 0.5,
        fill: bool = False,
        flip: bool = False,
        shift: int = 0,
        max_pixels: int = 40_000_000,
        max_seconds: float = 600.0,
        max_frames: int = 36_000,
        max_bytes: int = 2 * GIB,
        sampling: Sampling | None = None,
    ) -> None:
        if frames < 1:
            raise ConfigError(f"Video.frames must be at least 1, found {frames}")
        if sampling is not None and fill:
            raise ConfigError("Video: give sampling or fill, not both")
        self._sampling = sampling if sampling is not None else Evenly(frames=frames, fill=fill)
        self._steps = chosen_steps("Video", size, _SIZE, geometry)
        self._shape = result_shape(self._steps)
        if len(self._shape) != 3 and not isinstance(self._steps[-1], ClipStep):
            raise ConfigError("Video.geometry: frames must be whole pictures, not patches")
        check_augmentation("Video", flip, shift, self._shape)
        self.frames, self.fill, self.flip, self.shift = frames, fill, flip, shift
        self.max_pixels, self.max_seconds, self.max_bytes = max_pixels, max_seconds, max_bytes
        self.max_frames = max_frames
        self._normalise = normaliser("Video", mean, std, self._shape)

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
            side = max(_LEAST_SIDE, *(2 * step.side for step in self._steps))
            limits = Limits(self._sampling, side, self.max_pixels, self.max_seconds, self.max_frames)
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
        check_count(len(frames), self.max_frames)
        if not 0 < raw.rate < float("inf"):
            raise DataError(f"expected a rate above 0 frames per second, found {raw.rate:g}")

    def prepare(
        self, raw: Clip, generator: torch.Generator | None = None
    ) -> Float[Tensor, "frames rows columns 3"] | UInt8[Tensor, "frames rows columns 3"]:
        """Float32 [frames, rows, columns, 3], or bytes (of ``MergedPatches``: uint8 [patches, bytes])."""
        places = self._sampling.places(len(raw.frames), raw.rate)
        values = self._normalise(apply_to_clip(self._steps, raw.frames[places]))
        if generator is None:
            return values
        return augment(values, flip=self.flip, shift=self.shift, generator=generator)

    def layout(self, raw: Clip) -> tuple[int, ...] | None:
        """Of patches: time, rows and columns, and what ``MergedPatches`` adds; of whole frames none."""
        count = len(self._sampling.places(len(raw.frames), raw.rate))
        return clip_layout(self._steps, count, raw.frames[0], raw.rate * count / len(raw.frames))

    def undo(self, values: Tensor) -> Clip:
        """The frames in the size in which networks see them; how fast they were is forgotten."""
        if len(self._shape) != 3:
            return super().undo(values)
        return Clip(undone(values, self._normalise), _SHOWN_RATE)

    def blank(self) -> Tensor:
        """The fewest frames there can be, grey; of bytes, black."""
        fewest = len(self._sampling.places(1, 1.0))
        shape = (fewest, *self._shape) if len(self._shape) == 3 else self._shape
        return torch.zeros_like(self._normalise(np.zeros(shape, np.uint8)))

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
