"""Pictures: JPEG, PNG, WebP, GIF (first frame) and BMP files, Pillow pictures and arrays."""

from __future__ import annotations

import threading
import warnings
from typing import Any, BinaryIO, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..core import ConfigError, DataError, Modality, nearest
from . import html
from .files import GIB, beginning, is_source, open_source, peek
from .geometry import Step, apply_steps, chosen_steps, result_shape, steps_layout
from .pixels import COLOURS, augment, check_augmentation, decoding, normaliser, rgb, rgb_array, undone

_SIZE = 64  # pixels, if nothing is said
_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_LEAST_DRAFT = 256  # pixels: a JPEG is never decoded smaller than is good to look at
_warnings_lock = threading.Lock()


@final
class Image(Modality):
    """Pictures of one size, as normalised numbers or as bytes.

    ``read`` gives uint8 [h, w, 3]. ``prepare`` takes the ``geometry``, steps that end in one size (by default the
    central square of ``size`` pixels, 64 if not given), and returns ``(value / 255 - mean) / std`` as float32
    [rows, columns, 3], or the bytes as they are if ``mean`` is None, as networks of public checkpoints
    take them (``nn.encoders.pixels.Pixels`` normalises there, on the device). In training, ``flip`` mirrors half of
    the pictures and ``shift`` moves them by up to that many pixels.

    ``colours`` says how transparency and 16 bits become colours (see ``pixels.COLOURS``), ``upright`` whether EXIF
    turns a picture. The defaults are as a person sees it. The processors of transformers do not turn a picture that
    was opened with Pillow: ``image_settings`` chooses their rules. Only the central square lets a JPEG more than twice
    larger than needed be decoded at a reduced scale. Pictures of more than ``max_pixels`` are refused before decoding.
    """

    name: ClassVar[str] = "image"
    extensions: ClassVar[tuple[str, ...]] = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

    def __init__(
        self,
        *,
        size: int | None = None,
        geometry: Step | list[Step] | None = None,
        mean: float | list[float] | None = 0.5,
        std: float | list[float] = 0.5,
        colours: str = "shown",
        upright: bool = True,
        flip: bool = False,
        shift: int = 0,
        max_pixels: int = 40_000_000,
        max_bytes: int = 2 * GIB,
    ) -> None:
        self._steps = chosen_steps("Image", size, _SIZE, geometry)
        self._shape = result_shape(self._steps)
        if colours not in COLOURS:
            raise ConfigError(f"Image.colours: there is no rule {colours!r}{nearest(colours, COLOURS)}")
        check_augmentation("Image", flip, shift, self._shape)
        self.colours, self.upright, self.flip, self.shift = colours, upright, flip, shift
        self.max_pixels, self.max_bytes = max_pixels, max_bytes
        self._normalise = normaliser("Image", mean, std, self._shape)

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
                return self._decoded(open_picture(handle, self.max_pixels), reduced=self._steps[0].reduced)
        if isinstance(source, Tensor):
            source = source.detach().cpu().numpy()
        if isinstance(source, np.ndarray):
            return rgb_array(source)
        if hasattr(source, "getbands"):  # a Pillow picture, recognised without importing Pillow
            check_pixels(source.size, self.max_pixels)
            return self._decoded(source, reduced=False)
        raise DataError(f"expected a path, bytes, a picture or an array, found {type(source).__name__}")

    def check(self, raw: np.ndarray) -> None:
        """Raise DataError unless ``raw`` is uint8 [h, w, 3] with some pixels, and not too many."""
        if not isinstance(raw, np.ndarray) or raw.dtype != np.uint8 or raw.ndim != 3 or raw.shape[2] != 3:
            raise DataError("expected pixels as uint8 [height, width, 3]")
        check_pixels((raw.shape[1], raw.shape[0]), self.max_pixels)

    def prepare(
        self, raw: np.ndarray, generator: torch.Generator | None = None
    ) -> Float[Tensor, "rows columns 3"] | UInt8[Tensor, "rows ..."]:
        """Float32 [rows, columns, 3], or bytes; of a last step that makes pieces [pieces, ...]: patches, tiles."""
        values = self._normalise(apply_steps(self._steps, raw))
        if generator is None:
            return values
        return augment(values, flip=self.flip, shift=self.shift, generator=generator)

    def layout(self, raw: np.ndarray) -> tuple[int, ...] | None:
        """That of the tiles or patches of the last step, where it has one."""
        return steps_layout(self._steps, raw)

    def undo(self, values: Tensor) -> np.ndarray:
        """uint8 [rows, columns, 3], in the size in which networks see pictures."""
        return undone(values, self._normalise) if len(self._shape) == 3 else super().undo(values)

    def blank(self) -> Tensor:
        """A grey picture; of bytes, a black one."""
        return torch.zeros_like(self._normalise(np.zeros(self._shape, np.uint8)))

    def size(self, raw: np.ndarray) -> tuple[float, str]:
        """The longest side in pixels (of a reduced JPEG: as decoded)."""
        return float(max(raw.shape[:2])), "px"

    def show(self, raw: np.ndarray) -> str:
        """An ``<img>``."""
        return f'<img src="{html.png(raw)}" alt="image, {raw.shape[1]} x {raw.shape[0]} pixels">'

    def _decoded(self, picture: Any, *, reduced: bool) -> np.ndarray:
        """The pixels; ``reduced``: of a JPEG at the smallest scale at which both sides have twice what is needed."""
        side = max(2 * self._steps[0].side, _LEAST_DRAFT)
        with decoding(f"{picture.format or 'picture'} data"):
            if reduced:
                picture.draft(None, (side, side))
            return rgb(picture, self.colours, upright=self.upright)


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
