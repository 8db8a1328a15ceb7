"""What the preparations of public checkpoints share: fields about sizes, filters and the range of pixels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core import CapabilityError, ConfigError, Spec
from .fields import Fields
from .geometry import RESAMPLE

CLIP_MEAN, CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
#: Fields without influence on a picture that was opened with Pillow.
IGNORED = (
    "do_convert_rgb", "data_format", "input_data_format", "return_tensors", "device", "disable_grouping",
    "image_seq_length", "model_input_names", "_valid_processor_keys", "do_reduce_labels", "reduce_labels",
)  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """What one class of processors assumes for fields that a file leaves out."""

    size: Mapping[str, int]
    resample: str = "bicubic"
    square: bool = True  # what a size of one number means
    crop: int | None = None  # side of the crop, if any
    crops: bool = False
    mean: Sequence[float] = (0.5, 0.5, 0.5)
    std: Sequence[float] = (0.5, 0.5, 0.5)
    alias: str = "size"  # the field that goes before the size
    ignored: Sequence[str] = ()  # fields without influence that this class alone has


def exact(side: int) -> dict[str, int]:
    """The size of a square."""
    return {"height": side, "width": side}


def read_size(
    fields: Fields, name: str, value: Any, square: bool = True, known: Sequence[str] = ("shortest_edge",)
) -> dict[str, int]:
    """``height`` and ``width``, or one of the ``known`` edges: older files have one number or two."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        value = dict(zip(("height", "width"), value, strict=True))
    elif not isinstance(value, Mapping):
        value = {"height": value, "width": value} if square else {"shortest_edge": value}
    sides = {key: side for key, side in value.items() if side is not None}
    forms = [{"height", "width"}, *({edge} for edge in known)]
    if set(sides) not in forms:
        if set(sides) in _OTHER_FORMS:
            raise CapabilityError(f"{fields.where}: {name}: no geometry for {' and '.join(sorted(sides))}")
        raise fields.expected(name, f"height and width, or {' or '.join(known)}", value)
    if any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides.values()):
        raise fields.expected(name, "whole numbers of pixels", value)
    return sides


_OTHER_FORMS = (
    {"shortest_edge", "longest_edge"},
    {"longest_edge"},
    {"shortest_edge"},
    {"max_height", "max_width"},
)


def read_square(fields: Fields, name: str, value: Any) -> int:
    """The side of a square, also if only its shortest edge is told."""
    sides = set(read_size(fields, name, value).values())
    if len(sides) > 1:
        raise CapabilityError(f"{fields.where}: {name}: only squares are supported, found {value!r:.80}")
    return sides.pop()


def read_resample(fields: Fields, known: Kind) -> str:
    """The name of a filter, which files have as Pillow's number."""
    number = fields.whole("resample", RESAMPLE.index(known.resample), least=0)
    if number >= len(RESAMPLE):
        raise fields.expected("resample", f"a filter of Pillow, 0 to {len(RESAMPLE) - 1}", number)
    return RESAMPLE[number]


def read_pixels(fields: Fields, known: Kind, *, again: bool = False) -> dict[str, Any]:
    """Arguments of ``Pixels``; ``again``: EfficientNet's kind, which may subtract 1 first and divide twice."""
    rescales, factor = fields.flag("do_rescale", True), fields.number("rescale_factor", 1 / 255)
    mean, std = read_channels(fields, "image_mean", known.mean), read_channels(fields, "image_std", known.std)
    if factor == 0 or 0.0 in std:
        raise fields.expected("rescale_factor" if factor == 0 else "image_std", "numbers other than 0", 0)
    divisor = std
    if not fields.flag("do_normalize", True):
        mean, divisor = [0.0] * 3, [1.0] * 3
    if again:
        if fields.flag("rescale_offset", False) and rescales:
            mean = [m + 1 for m in mean]
        if fields.flag("include_top", True):
            divisor = [d * s for d, s in zip(divisor, std, strict=True)]
    return {"mean": mean, "std": divisor, "rescale": factor if rescales else 1.0}


def read_channels(fields: Fields, name: str, default: Sequence[float]) -> list[float]:
    """A number for each of three channels."""
    value = fields.get(name, list(default))
    value = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * 3
    if len(value) != 3 or not all(isinstance(v, int | float) and abs(v) < float("inf") for v in value):
        raise fields.expected(name, "a number for each of 3 channels", value)
    return [float(v) for v in value]


def written_pixels(prepared: Spec, pixels: Spec | Mapping[str, Any] | None) -> dict[str, Any]:
    """The fields that ``read_pixels`` reads: of the modality if it normalises itself, else of the network."""
    source: Any = prepared if prepared.mean is not None else pixels
    if source is None:
        raise ConfigError("image_config: the pictures are bytes: say what normalises them")
    if isinstance(source, Mapping):
        mean, std, rescale = source["mean"], source["std"], source["rescale"]
    else:
        mean, std = source.mean, source.std
        rescale = 1 / 255 if source is prepared else source.rescale
    three = [[float(v)] * 3 if isinstance(v, int | float) else [float(x) for x in v] for v in (mean, std)]
    return {
        "do_convert_rgb": True,
        "do_rescale": rescale != 1,
        "rescale_factor": rescale,
        "do_normalize": True,
        "image_mean": three[0],
        "image_std": three[1],
    }
