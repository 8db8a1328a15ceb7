"""Pictures: JPEG, PNG, WebP, GIF (first frame) and BMP files, Pillow pictures and arrays."""

from __future__ import annotations

import threading
import warnings
from typing import Any, BinaryIO, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..core import ConfigError, DataError, Modality
from . import html
from .files import GIB, beginning, is_source, open_source, peek
from .pixels import augment, decoding, normaliser, rgb, rgb_array, square

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_LEAST_DRAFT = 256  # pixels: a JPEG is never decoded smaller than is good to look at
_warnings_lock = threading.Lock()


@final
class Image(Modality):
    """Pictures as normalised squares.

    ``read`` gives uint8 [h, w, 3], upright (EXIF), with transparent parts on white. A JPEG more than twice
    larger than needed is decoded at a reduced scale, which is several times faster. ``prepare`` resizes the
    central square to ``size`` pixels (antialiased bicubic) and returns ``(value / 255 - mean) / std`` as
    float32 [size, size, 3], rows first. In training, ``flip`` mirrors half of the pictures and ``shift``
    moves them by up to that many pixels. Pictures of more than ``max_pixels`` are refused before decoding.
    """

    name: ClassVar[str] = "image"
    extensions: ClassVar[tuple[str, ...]] = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

    def __init__(
        self,
        *,
        size: int = 64,
        mean: float | list[float] = 0.5,
        std: float | list[float] = 0.5,
        flip: bool = False,
        shift: int = 0,
        max_pixels: int = 40_000_000,
        max_bytes: int = 2 * GIB,
    ) -> None:
        if size < 1:
            raise ConfigError(f"Image.size must be at least 1 pixel, found {size}")
        if not 0 <= shift < size:
            raise ConfigError(f"Image.shift must be from 0 to {size - 1} pixels, found {shift}")
        self.side, self.flip, self.shift = size, flip, shift
        self.max_pixels, self.max_bytes = max_pixels, max_bytes
        self._normalise = normaliser("Image", mean, std)

    @property
    def draws(self) -> bool:
        """Whether training augments."""
        return self.flip or self.shift > 0

    def read(self, source: Any) -> np.ndarray:
        """uint8 [h, w, 3] from a path, a file's bytes, a Pillow picture, or an array or tensor of pixels.

        Raises DataError for a file that is missing, damaged, not a picture, or too large.
        """
        if is_source(source):
            with open_source(source, self.max_bytes) as handle:
                picture = open_picture(handle, self.max_pixels)
                side = max(2 * self.side, _LEAST_DRAFT)
                return _decode(picture, side)
        if isinstance(source, Tensor):
            source = source.detach().cpu().numpy()
        if isinstance(source, np.ndarray):
            return rgb_array(source)
        if hasattr(source, "getbands"):  # a Pillow picture, recognised without importing Pillow
            check_pixels(source.size, self.max_pixels)
            return _decode(source, None)
        raise DataError(f"expected a path, bytes, a picture or an array, found {type(source).__name__}")

    def check(self, raw: np.ndarray) -> None:
        """Raise DataError unless ``raw`` is uint8 [h, w, 3] with some pixels, and not too many."""
        if not isinstance(raw, np.ndarray) or raw.dtype != np.uint8 or raw.ndim != 3 or raw.shape[2] != 3:
            raise DataError("expected pixels as uint8 [height, width, 3]")
        check_pixels((raw.shape[1], raw.shape[0]), self.max_pixels)

    def prepare(
        self, raw: np.ndarray, generator: torch.Generator | None = None
    ) -> Float[Tensor, "size size 3"]:
        """The normalised central square, float32 [size, size, 3]."""
        values = self._normalise(square(raw, self.side))
        if generator is None:
            return values
        return augment(values, flip=self.flip, shift=self.shift, generator=generator)

    def blank(self) -> Float[Tensor, "size size 3"]:
        """A grey picture."""
        return torch.zeros(self.side, self.side, 3)

    def size(self, raw: np.ndarray) -> tuple[float, str]:
        """The longest side in pixels (of a reduced JPEG: as decoded)."""
        return float(max(raw.shape[:2])), "px"

    def show(self, raw: np.ndarray) -> str:
        """An ``<img>``."""
        return f'<img src="{html.png(raw)}" alt="image, {raw.shape[1]} x {raw.shape[0]} pixels">'


def open_picture(handle: BinaryIO, max_pixels: int, formats: tuple[str, ...] = _FORMATS) -> Any:
    """The Pillow picture whose header is in ``handle``, not yet decoded. Raises DataError."""
    from PIL import Image as Pillow

    head = peek(handle)
    # Pillow warns of metadata that is not used, and of sizes that check_pixels refuses.
    with decoding("picture header"), _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            picture = Pillow.open(handle, formats=formats)
        except Pillow.UnidentifiedImageError:
            names = ", ".join(formats)
            raise DataError(f"not a readable picture ({names}): {beginning(head)}") from None
    check_pixels(picture.size, max_pixels)
    return picture


def check_pixels(size: tuple[int, int], limit: int) -> None:
    """Raise DataError for a ``(width, height)`` without pixels or with more than ``limit``."""
    width, height = size
    if width < 1 or height < 1:
        raise DataError(f"the picture has no pixels ({width} x {height})")
    if width * height > limit:
        raise DataError(f"the picture has {width} x {height} pixels, the limit is {limit:,} in all")


def _decode(picture: Any, side: int | None) -> np.ndarray:
    """The pixels, of a JPEG at the smallest scale at which both sides have at least ``side`` pixels."""
    with decoding(f"{picture.format or 'picture'} data"):
        if side is not None:
            picture.draft(None, (side, side))
        return rgb(picture)
