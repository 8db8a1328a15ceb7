"""Picture preparation of public checkpoints: from a ``preprocessor_config.json`` of transformers, and back.

Parity is with the Pillow processors of transformers 5 for a picture that was opened with Pillow: transparency is put
on white, 16 bits are clipped to 8, EXIF does not turn the picture. (Given a path instead, they turn it and drop
transparency, before the same steps.) Where a processor would refuse a picture (grey or transparent, without
``do_convert_rgb``), it is converted all the same. ``geometry`` says how the torchvision processors differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..core import CapabilityError, Spec, nearest
from .fields import FILE, Fields
from .geometry import RESAMPLE, CentreCrop, NativePatches, PadSquare, Resize, ShortestEdge
from .image import Image
from .picture_fields import (
    CLIP_MEAN,
    CLIP_STD,
    IGNORED,
    Kind,
    exact,
    read_channels,
    read_pixels,
    read_resample,
    read_size,
    written_pixels,
)
from .public_tiles import TILED, written_tiles
from .video import Video

_ENDING = "ImageProcessor"
_WARPED = 384  # pixels, from which ConvNeXt's pictures are no longer cropped
_FRAMES = 16  # of VideoMAE; its model's config has the number
_SHORTEST = {"shortest_edge": 224}
_CLIP = Kind(_SHORTEST, square=False, crop=224, crops=True, mean=CLIP_MEAN, std=CLIP_STD)
_KINDS = {
    "CLIP": _CLIP,
    "Bit": _CLIP,
    "Siglip": Kind(exact(224), square=False),
    "Siglip2": Kind({}, "bilinear"),
    "ViT": Kind(exact(224), "bilinear"),
    "Beit": Kind(exact(224), crop=224),
    "ConvNext": Kind({"shortest_edge": 384}, square=False),
    "EfficientNet": Kind(exact(346), crop=289),
    "VideoMAE": Kind(_SHORTEST, "bilinear", square=False, crop=224, crops=True),
    "Blip": Kind(exact(384), mean=CLIP_MEAN, std=CLIP_STD),
    "Idefics": Kind(
        exact(224), mean=CLIP_MEAN, std=CLIP_STD, alias="image_size", ignored=("image_num_channels",)
    ),
    "Llava": _CLIP,
    "VideoLlava": replace(_CLIP, ignored=("return_legacy_image_output",)),
} | {
    name: kind for name, (kind, _) in TILED.items()
}  # the class names of transformers, without "ImageProcessor"


def image_settings(
    config: Mapping[str, Any], where: str = FILE, *, kind: str | None = None
) -> tuple[Spec, dict[str, Any]]:
    """The Spec of ``Image`` (``Video`` for VideoMAE) that prepares bytes as ``config`` says, and the arguments of the
    ``Pixels`` that normalises them.

    ``config`` is the content of a file of any age that transformers wrote for CLIP, SigLIP, SigLIP 2, ViT, MAE, BEiT,
    DINOv2, BiT, ResNet, EfficientNet, ALIGN, VideoMAE, BLIP, GIT, Idefics, LLaVA, LLaVA-NeXT, PaliGemma, Gemma 3,
    InternVL, Idefics3, SmolVLM, Qwen2-VL, Qwen2.5-VL or Video-LLaVA, or of the ``processor_config.json`` that holds it;
    ``kind`` (such as "CLIPImageProcessor") is what wrote it, if the file does not say. Raises CapabilityError for
    another processor or an ability that is not built, ConfigError for a field that is unknown, wrong or contradicts
    another; each names ``where`` and the field.
    """
    fields = Fields(config, where, "image_processor")
    name = fields.kind(kind)
    if name not in _KINDS:
        raise CapabilityError(
            f"{where}: image_processor_type: no preparation for {name}{_ENDING}{nearest(name, _KINDS)}"
        )
    known = _KINDS[name]
    fields.ignore(*IGNORED, *known.ignored, "pad_size")
    if name in TILED:
        steps = TILED[name][1](fields, known)
    elif name == "Siglip2":
        steps = _patches(fields, known)
    else:
        steps = _padding(fields, known, name) + read_steps(fields, known, warps=name == "ConvNext")
    pixels = read_pixels(fields, known, again=name == "EfficientNet")
    fields.finish()
    if name == "VideoMAE":
        return Spec(Video, frames=_FRAMES, geometry=steps, mean=None, fill=True), pixels
    return Spec(Image, geometry=steps, mean=None, colours="clipped", upright=False), pixels


def _padding(fields: Fields, known: Kind, name: str) -> list[Spec]:
    """LLaVA's kind may put pictures on a square of their mean colour first."""
    if name != "Llava":
        fields.expect("do_pad", False)
    elif fields.flag("do_pad", False):
        mean = read_channels(fields, "image_mean", known.mean)
        return [Spec(PadSquare, colour=_mean_colour(mean))]
    return []


def _mean_colour(mean: Sequence[float]) -> list[int]:
    return [int(level * 255) for level in mean]


def read_steps(fields: Fields, known: Kind, *, warps: bool = False) -> list[Spec]:
    """Steps that resize and crop; ``warps``: of ConvNeXt's kind, which keeps a part of the shortest edge."""
    steps = []
    square = fields.flag("default_to_square", known.square)
    size = read_size(fields, "size", fields.get(known.alias, fields.get("size", known.size)), square)
    resample = read_resample(fields, known)
    share = fields.number("crop_pct", 224 / 256, least=1e-3) if warps else 0.0
    if fields.flag("do_resize", True):
        steps = _resizing(fields, size, resample, share)
    crop = fields.get("crop_size", known.crop)
    if fields.flag("do_center_crop", known.crops):
        if crop is None:
            raise fields.error("crop_size", "do_center_crop needs it, but the field is missing")
        crop = read_size(fields, "crop_size", crop)
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
        return [Spec(Resize, **exact(side), resample=resample)]
    return [Spec(ShortestEdge, size=int(side / share), resample=resample), Spec(CentreCrop, **exact(side))]


def _patches(fields: Fields, known: Kind) -> list[Spec]:
    fields.expect("do_resize", True)
    fields.expect("do_center_crop", False)
    fields.ignore("size", "crop_size", "default_to_square")
    patch, most = fields.whole("patch_size", 16), fields.whole("max_num_patches", 256)
    return [Spec(NativePatches, patch=patch, most=most, resample=read_resample(fields, known))]


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
    config = written_pixels(image, pixels)
    if image.cls is Video:
        processor = f"VideoMAE{_ENDING}"
    if steps and steps[0].cls is PadSquare and processor == f"Llava{_ENDING}":
        if steps[0].colour != _mean_colour(config["image_mean"]):
            raise CapabilityError(f"{processor} pads with the mean colour only, found {steps[0].colour}")
        config["do_pad"], steps = True, steps[1:]
    if [step.cls for step in steps] == [NativePatches]:
        sizes = {"patch_size": steps[0].patch, "max_num_patches": steps[0].most, "do_resize": True}
        sizes["resample"] = RESAMPLE.index(steps[0].resample)
        processor = f"Siglip2{_ENDING}"
    elif (tiled := written_tiles(steps, processor)) is not None:
        processor, sizes = tiled
    else:
        sizes = written_steps(steps, processor)
    config |= {"image_processor_type": processor, **sizes}
    if processor == f"EfficientNet{_ENDING}":
        config |= {"rescale_offset": False, "include_top": False}
    return config


def written_steps(steps: Sequence[Spec], processor: str) -> dict[str, Any]:
    """The fields that ``read_steps`` reads. Raises CapabilityError for steps that ``processor`` has not."""
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
    ratio = side / first.size
    share = ratio if int(side / ratio) == first.size else side / (first.size + 0.5)
    return {"size": {"shortest_edge": side}, "crop_pct": share}
