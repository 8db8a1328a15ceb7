"""From any picture to RGB bytes, and from bytes to numbers. Shared by images and video frames."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..core import ConfigError, DataError
from . import draws

# What Pillow's decoders raise on damaged files, some of it by accident.
_BROKEN = (
    OSError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RuntimeError, SyntaxError,
    EOFError, MemoryError, AssertionError, Warning, struct.error, zlib.error,
)  # fmt: skip

_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
_ORIENTATION = 0x0112


@contextmanager
def decoding(what: str) -> Iterator[None]:
    """Turn what Pillow raises inside into a DataError about ``what``; its own messages hold addresses."""
    from PIL.Image import DecompressionBombError

    try:
        yield
    except DecompressionBombError:
        raise DataError(f"the {what} declares far too many pixels") from None
    except _BROKEN:
        raise DataError(f"the {what} is truncated or damaged") from None


def rgb(picture: Any, colours: str = "shown", *, upright: bool = True) -> np.ndarray:
    """A Pillow picture as uint8 [h, w, 3] by one of the rules of ``COLOURS``; ``upright`` turns it as EXIF says.

    To be called inside ``decoding``. Raises DataError for modes without a known range, if the rule is "shown".
    """
    from PIL import Image

    picture.load()
    turn = _TURNS.get(orientation(picture.info.get("exif", b""))) if upright else None
    picture = _COLOUR_RULES[colours](picture)
    if picture.mode != "RGB":
        picture = picture.convert("RGB")
    if turn is not None:
        picture = picture.transpose(Image.Transpose[turn])
    return np.array(picture)


def _shown(picture: Any) -> Any:
    """As a person sees it: transparent parts on white, 16 bits reduced to 8."""
    from PIL import Image

    if picture.mode.startswith("I;16"):  # Pillow's own conversion would clip 16 bits instead of scaling them
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise DataError(
            f"expected 8 or 16 bits per channel, found a picture of mode {picture.mode} (32 bits)"
        )
    return _on_white(picture) if picture.has_transparency_data else picture


def _clipped(picture: Any) -> Any:
    """By Pillow, which clips what exceeds 8 bits, with transparent parts on white."""
    if "A" in picture.getbands() or picture.info.get("transparency") is not None:
        return _on_white(picture)
    return picture


def _on_white(picture: Any) -> Any:
    from PIL import Image

    opaque = Image.new("RGBA", picture.size, "white")
    opaque.alpha_composite(picture.convert("RGBA"))
    return opaque


def _opaque(picture: Any) -> Any:
    """By Pillow, which clips what exceeds 8 bits and drops transparency: what was hidden shows."""
    return picture


_COLOUR_RULES: dict[str, Callable[[Any], Any]] = {"shown": _shown, "clipped": _clipped, "opaque": _opaque}
#: How a file becomes red, green and blue. "shown" is our own; transformers 5 treats a picture that was opened with
#: Pillow as "clipped" does, earlier versions and most projects before them as "opaque" does.
COLOURS = tuple(_COLOUR_RULES)


def orientation(exif: bytes) -> int:
    """The EXIF orientation, 1 to 8; 1 if it is absent or damaged.

    Read here because Pillow parses, and warns about, every other tag as well.
    """
    body = exif.removeprefix(b"Exif\0\0")
    order: Any = {b"II": "little", b"MM": "big"}.get(body[:2])
    if order is None:
        return 1

    def number(start: int, length: int) -> int:
        return int.from_bytes(body[start : start + length], order)

    start = number(4, 4)
    for entry in range(start + 2, min(start + 2 + 12 * number(start, 2), len(body)), 12):
        if number(entry, 2) == _ORIENTATION:
            return number(entry + 8, 2)
    return 1


def rgb_array(values: np.ndarray) -> np.ndarray:
    """An array as uint8 [..., h, w, 3].

    Channels (1, 3 or 4; alpha is put on white) are last, or first where only that is possible; [h, w] is
    grey. Integers run from 0 to 255 (65,535 for uint16), floats from 0 to 1. Raises DataError otherwise.
    """
    if values.ndim == 2:
        values = values[..., None]
    if values.ndim < 3 or 0 in values.shape:
        raise DataError(f"expected pixels [height, width, 3], found the shape {list(values.shape)}")
    if values.shape[-1] not in (1, 3, 4) and values.shape[-3] in (1, 3, 4):
        values = np.moveaxis(values, -3, -1)
    if values.shape[-1] not in (1, 3, 4):
        raise DataError(f"expected 1, 3 or 4 colour channels, found the shape {list(values.shape)}")
    values = _bytes(values)
    if values.shape[-1] == 4:
        alpha = values[..., 3:].astype(np.uint16)
        values = ((values[..., :3] * alpha + 255 * (255 - alpha) + 127) // 255).astype(np.uint8)
    if values.shape[-1] == 1:
        values = values.repeat(3, -1)
    return np.ascontiguousarray(values)


def _bytes(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        return (values >> 8).astype(np.uint8)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    if values.dtype.kind not in "fiu":
        raise DataError(f"expected pixels as numbers, found {values.dtype}")
    low, high = values.min(), values.max()
    top = 1 if values.dtype.kind == "f" else 255
    if not (low >= 0 and high <= top):  # also true of NaN
        raise DataError(f"expected {values.dtype} pixels from 0 to {top}, found {low:g} to {high:g}")
    return (values.astype(np.float32) * 255).round().astype(np.uint8) if top == 1 else values.astype(np.uint8)


def normaliser(
    owner: str, mean: float | list[float] | None, std: float | list[float], shape: tuple[int, ...]
) -> Callable[[np.ndarray], Tensor]:
    """A function from uint8 of this ``shape``, [..., 3], to float32 ``(value / 255 - mean) / std``, per channel or for
    all alike.

    Without a mean, the function gives the bytes as they are. Raises ConfigError, naming ``owner``, for anything but
    1 or 3 numbers, a deviation of 0, or a mean for rows of bytes, which patches are.
    """
    if mean is None:
        return torch.tensor
    if shape[-1] != 3:
        raise ConfigError(f"{owner}: patches stay bytes: expected no mean, found {mean!r}")
    means, stds = (
        torch.tensor(v if isinstance(v, Sequence) else [v], dtype=torch.float64) for v in (mean, std)
    )
    if len(means) not in (1, 3) or len(stds) not in (1, 3):
        raise ConfigError(f"{owner}: mean and std take 1 or 3 numbers, found {mean!r} and {std!r}")
    if not bool((stds > 0).all()):
        raise ConfigError(f"{owner}.std must be above 0, found {std!r}")
    return _Normalise((1 / (255 * stds)).float(), (-means / stds).float())


def undone(values: Tensor, normalise: Callable[[np.ndarray], Tensor]) -> np.ndarray:
    """The uint8 array [..., h, w, 3] that comes nearest to what ``normalise`` (see ``normaliser``) would give."""
    if values.dtype != torch.uint8 and isinstance(normalise, _Normalise):
        values = ((values - normalise.offset) / normalise.scale).round_().clamp_(0, 255).to(torch.uint8)
    return values.numpy()


class _Normalise:
    def __init__(self, scale: Tensor, offset: Tensor) -> None:
        self.scale, self.offset = scale, offset

    def __call__(self, picture: np.ndarray) -> Tensor:
        return torch.tensor(picture).to(torch.float32).mul_(self.scale).add_(self.offset)


def check_augmentation(owner: str, flip: bool, shift: int, shape: tuple[int, ...]) -> None:
    """Raise ConfigError, naming ``owner``, if results of this ``shape`` cannot be mirrored or moved so far."""
    if len(shape) != 3 and (flip or shift):
        raise ConfigError(f"{owner}: flip and shift need whole pictures, not patches")
    if shift and not 0 <= shift < min(shape[:2]):
        raise ConfigError(f"{owner}.shift must be from 0 to {min(shape[:2]) - 1} pixels, found {shift}")


def augment(values: Tensor, *, flip: bool, shift: int, generator: torch.Generator) -> Tensor:
    """[..., h, w, 3] mirrored left to right half of the time, and moved by up to ``shift`` pixels.

    Uncovered borders repeat the edge. All frames of a clip move alike.
    """
    if flip and draws.integer(generator, 0, 1):
        values = values.flip(-2)
    if shift:
        height, width = values.shape[-3:-1]
        down, right = draws.integer(generator, -shift, shift), draws.integer(generator, -shift, shift)
        rows = (torch.arange(height) - down).clamp_(0, height - 1)
        columns = (torch.arange(width) - right).clamp_(0, width - 1)
        values = values[..., rows[:, None], columns, :]
    return values.contiguous()
