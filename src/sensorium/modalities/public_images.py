"""Picture preparation of public checkpoints: from a ``preprocessor_config.json`` of transformers, and back.

Parity is with the Pillow processors of transformers 5 for a picture that was opened with Pillow: transparency is put
on white, 16 bits are clipped to 8, EXIF does not turn the picture. (Given a path instead, they turn it and drop
transparency, before the same steps.) Where a processor would refuse a picture (grey or transparent, without
``do_convert_rgb``), it is converted all the same. ``geometry`` says how the torchvision processors differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core import CapabilityError, ConfigError, Spec, nearest
from .fields import FILE, Fields
from .geometry import RESAMPLE, CentreCrop, NativePatches, Resize, ShortestEdge
from .image import Image
from .video import Video

_ENDING = "ImageProcessor"
_CLIP_MEAN, _CLIP_STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
_WARPED = 384  # pixels, from which ConvNeXt's pictures are no longer cropped
_FRAMES = 16  # of VideoMAE; its model's config has the number
_IGNORED = (
    "do_convert_rgb", "data_format", "input_data_format", "return_tensors", "device", "disable_grouping",
    "image_seq_length", "model_input_names", "_valid_processor_keys", "do_reduce_labels", "reduce_labels",
)  # fmt: skip


@dataclass(frozen=True)
class _Kind:
    """What one class of processors assumes for fields that a file leaves out."""

    size: Mapping[str, int]
    resample: str = "bicubic"
    square: bool = True  # what a size of one number means
    crop: int | None = None  # side of the crop, if any
    crops: bool = False
    mean: Sequence[float] = (0.5, 0.5, 0.5)
    std: Sequence[float] = (0.5, 0.5, 0.5)


def _exact(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


_SHORTEST = {"shortest_edge": 224}
_CLIP = _Kind(_SHORTEST, square=False, crop=224, crops=True, mean=_CLIP_MEAN, std=_CLIP_STD)
_KINDS = {
    "CLIP": _CLIP,
    "Bit": _CLIP,
    "Siglip": _Kind(_exact(224), square=False),
    "Siglip2": _Kind({}, "bilinear"),
    "ViT": _Kind(_exact(224), "bilinear"),
    "Beit": _Kind(_exact(224), crop=224),
    "ConvNext": _Kind({"shortest_edge": 384}, square=False),
    "EfficientNet": _Kind(_exact(346), crop=289),
    "VideoMAE": _Kind(_SHORTEST, "bilinear", square=False, crop=224, crops=True),
}  # the class names of transformers, without "ImageProcessor"


def image_settings(
    config: Mapping[str, Any], where: str = FILE, *, kind: str | None = None
) -> tuple[Spec, dict[str, Any]]:
    """The Spec of ``Image`` (``Video`` for VideoMAE) that prepares bytes as ``config`` says, and the arguments of the
    ``Pixels`` that normalises them.

    ``config`` is the content of a file of any age that transformers wrote for CLIP, SigLIP, SigLIP 2, ViT, MAE, BEiT,
    DINOv2, BiT, ResNet, EfficientNet, ALIGN or VideoMAE; ``kind`` (such as "CLIPImageProcessor") is what wrote it, if
    the file does not say. Raises CapabilityError for another processor or an ability that is not built, ConfigError
    for a field that is unknown, wrong or contradicts another; each names ``where`` and the field.
    """
    fields = Fields(config, where, "image_processor")
    name = fields.kind(kind)
    if name not in _KINDS:
        raise CapabilityError(
            f"{where}: image_processor_type: no preparation for {name}{_ENDING}{nearest(name, _KINDS)}"
        )
    known = _KINDS[name]
    fields.ignore(*_IGNORED)
    fields.expect("do_pad", False)
    fields.ignore("pad_size")
    steps = _patches(fields, known) if name == "Siglip2" else _steps(fields, known, warps=name == "ConvNext")
    pixels = _pixels(fields, known, again=name == "EfficientNet")
    fields.finish()
    if name == "VideoMAE":
        return Spec(Video, frames=_FRAMES, geometry=steps, mean=None, fill=True), pixels
    return Spec(Image, geometry=steps, mean=None, colours="clipped", upright=False), pixels


def _steps(fields: Fields, known: _Kind, *, warps: bool) -> list[Spec]:
    steps = []
    square = fields.flag("default_to_square", known.square)
    size = _size(fields, "size", fields.get("size", known.size), square)
    resample = _resample(fields, known)
    share = fields.number("crop_pct", 224 / 256, least=1e-3) if warps else 0.0
    if fields.flag("do_resize", True):
        steps = _resizing(fields, size, resample, share)
    crop = fields.get("crop_size", known.crop)
    if fields.flag("do_center_crop", known.crops):
        if crop is None:
            raise fields.error("crop_size", "do_center_crop needs it, but the field is missing")
        crop = _size(fields, "crop_size", crop, square=True)
        if "shortest_edge" in crop:
            raise fields.expected("crop_size", "height and width", crop)
        steps.append(Spec(CentreCrop, **crop))
    if not steps or steps[-1].cls is ShortestEdge:
        raise CapabilityError(
            f"{fields.where}: do_center_crop: without it, pictures keep shapes of their own and cannot form a batch"
        )
    return steps


def _resizing(fields: Fields, size: Mapping[str, int], resample: str, share: float) -> list[Spec]:
    """``share``: of ConvNeXt's kind, the part of the shortest edge that is kept; else 0."""
    if "shortest_edge" not in size:
        if share:
            raise fields.expected("size", "shortest_edge", dict(size))
        return [Spec(Resize, **size, resample=resample)]
    side = size["shortest_edge"]
    if not share:
        return [Spec(ShortestEdge, size=side, resample=resample)]
    if side >= _WARPED:
        return [Spec(Resize, **_exact(side), resample=resample)]
    return [Spec(ShortestEdge, size=int(side / share), resample=resample), Spec(CentreCrop, **_exact(side))]


def _patches(fields: Fields, known: _Kind) -> list[Spec]:
    fields.expect("do_resize", True)
    fields.expect("do_center_crop", False)
    fields.ignore("size", "crop_size", "default_to_square")
    patch, most = fields.whole("patch_size", 16), fields.whole("max_num_patches", 256)
    return [Spec(NativePatches, patch=patch, most=most, resample=_resample(fields, known))]


def _size(fields: Fields, name: str, value: Any, square: bool) -> dict[str, int]:
    """``height`` and ``width``, or ``shortest_edge``: older files have one number or two."""
    if isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        value = dict(zip(("height", "width"), value, strict=True))
    elif not isinstance(value, Mapping):
        value = {"height": value, "width": value} if square else {"shortest_edge": value}
    sides = {key: side for key, side in value.items() if side is not None}
    if set(sides) in ({"shortest_edge", "longest_edge"}, {"longest_edge"}, {"max_height", "max_width"}):
        raise CapabilityError(f"{fields.where}: {name}: no geometry for {' and '.join(sorted(sides))}")
    if set(sides) not in ({"height", "width"}, {"shortest_edge"}):
        raise fields.expected(name, "height and width, or shortest_edge", value)
    if any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides.values()):
        raise fields.expected(name, "whole numbers of pixels", value)
    return sides


def _resample(fields: Fields, known: _Kind) -> str:
    number = fields.whole("resample", RESAMPLE.index(known.resample), least=0)
    if number >= len(RESAMPLE):
        raise fields.expected("resample", f"a filter of Pillow, 0 to {len(RESAMPLE) - 1}", number)
    return RESAMPLE[number]


def _pixels(fields: Fields, known: _Kind, *, again: bool) -> dict[str, Any]:
    """Arguments of ``Pixels``; ``again``: EfficientNet's kind, which may subtract 1 first and divide twice."""
    rescales, factor = fields.flag("do_rescale", True), fields.number("rescale_factor", 1 / 255)
    mean, std = _channels(fields, "image_mean", known.mean), _channels(fields, "image_std", known.std)
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


def _channels(fields: Fields, name: str, default: Sequence[float]) -> list[float]:
    value = fields.get(name, list(default))
    value = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value] * 3
    if len(value) != 3 or not all(isinstance(v, int | float) and abs(v) < float("inf") for v in value):
        raise fields.expected(name, "a number for each of 3 channels", value)
    return [float(v) for v in value]


def image_config(
    image: Spec, pixels: Spec | Mapping[str, Any] | None = None, processor: str = "CLIPImageProcessor"
) -> dict[str, Any]:
    """The content of a ``preprocessor_config.json`` with which transformers' AutoImageProcessor prepares as ``image``
    (the Spec of an ``Image`` or ``Video``) and ``pixels`` (that of the network's ``Pixels``, or its arguments) do.

    ``processor`` is the class that is to open it; where patches or frames need another, that one is named. Raises
    CapabilityError for a geometry that this class has not, such as our own central square.
    """
    geometry = image.geometry if isinstance(image.geometry, list) else [image.geometry]
    steps: list[Spec] = [step for step in geometry if isinstance(step, Spec)]
    if image.cls is Video:
        processor = f"VideoMAE{_ENDING}"
    if [step.cls for step in steps] == [NativePatches]:
        sizes = {"patch_size": steps[0].patch, "max_num_patches": steps[0].most, "do_resize": True}
        sizes["resample"] = RESAMPLE.index(steps[0].resample)
        processor = f"Siglip2{_ENDING}"
    else:
        sizes = _sizes(steps, processor)
    mean, std, rescale = _normalisation(image, pixels)
    config = {
        "image_processor_type": processor,
        "do_convert_rgb": True,
        "do_rescale": rescale != 1,
        "rescale_factor": rescale,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
        **sizes,
    }
    if processor == f"EfficientNet{_ENDING}":
        config |= {"rescale_offset": False, "include_top": False}
    return config


def _sizes(steps: Sequence[Spec], processor: str) -> dict[str, Any]:
    kinds = [step.cls for step in steps]
    if kinds not in ([Resize], [CentreCrop], [Resize, CentreCrop], [ShortestEdge, CentreCrop]):
        found = ", then ".join(kind.__name__ for kind in kinds) or "the central square"
        raise CapabilityError(f"transformers has no image processor for this geometry: {found}")
    first, last = steps[0], steps[-1]
    sizes: dict[str, Any] = {"do_resize": first.cls is not CentreCrop}
    if first.cls is not CentreCrop:
        sizes["resample"] = RESAMPLE.index(first.resample)
    if processor == f"ConvNext{_ENDING}":
        return sizes | {"do_center_crop": False} | _kept_share(first, last)
    if first.cls is Resize:
        sizes["size"] = {"height": first.height, "width": first.width}
    elif first.cls is ShortestEdge:
        sizes["size"] = {"shortest_edge": first.size}
    sizes["do_center_crop"] = last.cls is CentreCrop
    if last.cls is CentreCrop:
        sizes["crop_size"] = {"height": last.height, "width": last.width}
    return sizes


def _kept_share(first: Spec, last: Spec) -> dict[str, Any]:
    side = last.height if last.cls in (CentreCrop, Resize) else 0
    if side != last.width or (first.cls, last.cls, side >= _WARPED) not in (
        (ShortestEdge, CentreCrop, False),
        (Resize, Resize, True),
    ):
        raise CapabilityError(
            f"ConvNext{_ENDING} crops squares below {_WARPED} pixels and warps larger ones: this geometry is another"
        )
    if first.cls is Resize:
        return {"size": {"shortest_edge": side}}
    exact = side / first.size
    share = exact if int(side / exact) == first.size else side / (first.size + 0.5)
    return {"size": {"shortest_edge": side}, "crop_pct": share}


def _normalisation(
    image: Spec, pixels: Spec | Mapping[str, Any] | None
) -> tuple[list[float], list[float], float]:
    """Of the modality if it normalises itself, else of the network."""
    source: Any = image if image.mean is not None else pixels
    if source is None:
        raise ConfigError("image_config: the pictures are bytes: say what normalises them")
    if isinstance(source, Mapping):
        mean, std, rescale = source["mean"], source["std"], source["rescale"]
    else:
        mean, std = source.mean, source.std
        rescale = 1 / 255 if source is image else source.rescale
    three = [[float(v)] * 3 if isinstance(v, int | float) else [float(x) for x in v] for v in (mean, std)]
    return three[0], three[1], rescale
