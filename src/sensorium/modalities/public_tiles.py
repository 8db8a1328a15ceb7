"""Pictures in tiles and merged patches as public checkpoints prepare them: the fields of each class of processors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core import CapabilityError, Spec
from .fields import Fields
from .geometry import RESAMPLE, LongestEdge, Resize
from .merged_patches import MergedPatches
from .picture_fields import CLIP_MEAN, CLIP_STD, Kind, exact, read_resample, read_size, read_square
from .tiles import AnyResolution, AspectGrid, EdgeGrid, PanAndScan

_ENDING = "ImageProcessor"
_RESOLUTIONS = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]


def _read_any_resolution(fields: Fields, known: Kind) -> list[Spec]:
    fields.expect("do_resize", True)
    fields.expect("do_center_crop", True)
    fields.expect("aspect_ratio_setting", "anyres")
    fields.ignore("do_pad", "default_to_square")  # tiles are made up to a batch elsewhere
    side = read_square(fields, "crop_size", fields.get("crop_size", known.crop))
    if read_square(fields, "size", fields.get("size", known.size)) != side:
        raise CapabilityError(f"{fields.where}: size: only that of the crop ({side}) is supported")
    resolutions = fields.get("image_grid_pinpoints", _RESOLUTIONS)
    if (
        not isinstance(resolutions, Sequence)
        or not resolutions
        or not all(_is_resolution(pair, side) for pair in resolutions)
    ):
        raise fields.expected("image_grid_pinpoints", f"pairs of multiples of {side} pixels", resolutions)
    return [
        Spec(
            AnyResolution,
            side=side,
            resolutions=[list(pair) for pair in resolutions],
            resample=read_resample(fields, known),
        )
    ]


def _is_resolution(pair: Any, side: int) -> bool:
    return (
        isinstance(pair, Sequence)
        and len(pair) == 2
        and all(isinstance(length, int) and length > 0 and length % side == 0 for length in pair)
    )


def _read_aspect_grid(fields: Fields, known: Kind) -> list[Spec]:
    size, resample = _read_warp(fields, known)
    least, most = fields.whole("min_patches", 1), fields.whole("max_patches", 12)
    # InternVL's processor of texts and pictures asks for tiles, whatever the file says
    tiled = fields.flag("crop_to_patches", False) or fields.owner == "InternVLProcessor"
    if not tiled or most == 1:
        return [Spec(Resize, **size, resample=resample)]
    return [Spec(AspectGrid, **size, least=least, most=most, resample=resample)]


def _read_edge_grid(fields: Fields, known: Kind) -> list[Spec]:
    fields.expect("do_resize", True)
    fields.expect("do_center_crop", False)
    fields.ignore("crop_size", "default_to_square", "do_pad", "return_row_col_info", "video_sampling")
    size = read_size(fields, "size", fields.get("size", known.size), known=("longest_edge",))
    tile = read_size(
        fields, "max_image_size", fields.get("max_image_size", {"longest_edge": 364}), known=("longest_edge",)
    )
    if "longest_edge" not in size or "longest_edge" not in tile:
        name = "size" if "longest_edge" not in size else "max_image_size"
        raise CapabilityError(f"{fields.where}: {name}: only longest_edge is supported")
    longest, side, resample = size["longest_edge"], tile["longest_edge"], read_resample(fields, known)
    if fields.flag("do_image_splitting", True):
        return [Spec(EdgeGrid, side=side, longest=longest, resample=resample)]
    return [
        Spec(LongestEdge, size=longest, resample=resample),
        Spec(Resize, **exact(side), resample=resample),
    ]


def _read_pan_and_scan(fields: Fields, known: Kind) -> list[Spec]:
    size, resample = _read_warp(fields, known)
    settings = {
        "least": fields.whole("pan_and_scan_min_crop_size", 256),
        "most": fields.whole("pan_and_scan_max_num_crops", 4),
        "ratio": fields.number("pan_and_scan_min_ratio_to_activate", 1.2),
    }
    # Gemma 3's processor of texts and pictures asks for none, whatever the file says
    if fields.flag("do_pan_and_scan", False) and fields.owner != "Gemma3Processor":
        return [Spec(PanAndScan, **size, **settings, resample=resample)]
    return [Spec(Resize, **size, resample=resample)]


def _read_warp(fields: Fields, known: Kind) -> tuple[dict[str, int], str]:
    fields.expect("do_resize", True)
    fields.expect("do_center_crop", False)
    fields.expect("do_pad", False)
    fields.ignore("crop_size", "default_to_square")
    size = read_size(fields, "size", fields.get("size", known.size), known=())
    return size, read_resample(fields, known)


def read_merged_patches(fields: Fields, known: Kind) -> list[Spec]:
    """The patches of pictures; ``public_clips`` adds what clips have besides."""
    fields.expect("do_resize", True)
    fields.expect("do_center_crop", False)
    fields.expect("do_pad", False)
    fields.ignore("crop_size", "default_to_square")
    size = fields.get("size", {})
    if not isinstance(size, Mapping) or not set(size) <= {name for pair in _AREA_FIELDS for name in pair}:
        raise fields.expected("size", "shortest_edge and longest_edge, in pixels of the area", size)
    least, most = (
        fields.get(older, size.get(edge, size.get(older, known.size[edge]))) for edge, older in _AREA_FIELDS
    )
    if not (isinstance(least, int) and isinstance(most, int) and 1 <= least <= most):
        raise fields.expected("size", "two whole numbers of pixels, the fewest and the most", [least, most])
    return [
        Spec(
            MergedPatches,
            patch=fields.whole("patch_size", 14),
            merge=fields.whole("merge_size", 2),
            frames=fields.whole("temporal_patch_size", 2),
            least=least,
            most=most,
            resample=read_resample(fields, known),
        )
    ]


_AREA_FIELDS = (("shortest_edge", "min_pixels"), ("longest_edge", "max_pixels"))  # the older ones go first
_AREA = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 1280}
_EDGES = {"longest_edge": 4 * 364}
#: The class names of transformers, without "ImageProcessor": what each assumes, and how its fields become steps.
TILED: dict[str, tuple[Kind, Callable[[Fields, Kind], list[Spec]]]] = {
    "LlavaNext": (Kind({"shortest_edge": 224}, crop=224, mean=CLIP_MEAN, std=CLIP_STD), _read_any_resolution),
    "GotOcr2": (Kind(exact(384), mean=CLIP_MEAN, std=CLIP_STD), _read_aspect_grid),
    "Idefics3": (Kind(_EDGES, "lanczos"), _read_edge_grid),
    "SmolVLM": (Kind(_EDGES, "lanczos"), _read_edge_grid),
    "Gemma3": (Kind(exact(224), "bilinear"), _read_pan_and_scan),
    "Qwen2VL": (Kind(_AREA, mean=CLIP_MEAN, std=CLIP_STD), read_merged_patches),
}


def written_tiles(steps: Sequence[Spec], processor: str) -> tuple[str, dict[str, Any]] | None:
    """The class for these steps, and the fields that its reader above reads; None for whole pictures.

    ``processor`` is taken where two classes do the same. Raises CapabilityError for tiles that no class makes.
    """
    kinds = [step.cls for step in steps]
    if kinds == [LongestEdge, Resize]:
        edge, tile = steps
        if (tile.height, tile.resample) == (tile.width, edge.resample):
            return _edge_kind(processor), _edges(edge.size, tile.height, edge.resample, splits=False)
    if kinds and kinds[-1] in _WRITERS:
        if len(steps) > 1:
            names = ", then ".join(kind.__name__ for kind in kinds)
            raise CapabilityError(f"transformers has no image processor for this geometry: {names}")
        return _WRITERS[kinds[-1]](steps[0], processor)
    return None


def _write_any_resolution(step: Spec, processor: str) -> tuple[str, dict[str, Any]]:
    return f"LlavaNext{_ENDING}", {
        "do_resize": True,
        "do_center_crop": True,
        "do_pad": True,
        "size": {"shortest_edge": step.side},
        "crop_size": exact(step.side),
        "image_grid_pinpoints": step.resolutions,
        "resample": RESAMPLE.index(step.resample),
    }


def _write_aspect_grid(step: Spec, processor: str) -> tuple[str, dict[str, Any]]:
    return f"GotOcr2{_ENDING}", {
        **_warp(step),
        "crop_to_patches": True,
        "min_patches": step.least,
        "max_patches": step.most,
    }


def _write_edge_grid(step: Spec, processor: str) -> tuple[str, dict[str, Any]]:
    return _edge_kind(processor), _edges(step.longest, step.side, step.resample, splits=True)


def _write_pan_and_scan(step: Spec, processor: str) -> tuple[str, dict[str, Any]]:
    return f"Gemma3{_ENDING}", {
        **_warp(step),
        "do_pan_and_scan": True,
        "pan_and_scan_min_crop_size": step.least,
        "pan_and_scan_max_num_crops": step.most,
        "pan_and_scan_min_ratio_to_activate": step.ratio,
    }


def _write_merged_patches(step: Spec, processor: str) -> tuple[str, dict[str, Any]]:
    return f"Qwen2VL{_ENDING}", written_merged_patches(step)


def written_merged_patches(step: Spec) -> dict[str, Any]:
    """The fields that ``read_merged_patches`` reads."""
    return {
        "do_resize": True,
        "size": {"shortest_edge": step.least, "longest_edge": step.most},
        "patch_size": step.patch,
        "merge_size": step.merge,
        "temporal_patch_size": step.frames,
        "resample": RESAMPLE.index(step.resample),
    }


_WRITERS: dict[Any, Callable[[Spec, str], tuple[str, dict[str, Any]]]] = {
    AnyResolution: _write_any_resolution,
    AspectGrid: _write_aspect_grid,
    EdgeGrid: _write_edge_grid,
    PanAndScan: _write_pan_and_scan,
    MergedPatches: _write_merged_patches,
}


def _edge_kind(processor: str) -> str:
    return processor if processor == f"SmolVLM{_ENDING}" else f"Idefics3{_ENDING}"


def _edges(longest: int, side: int, resample: str, *, splits: bool) -> dict[str, Any]:
    return {
        "do_resize": True,
        "do_pad": True,
        "do_image_splitting": splits,
        "size": {"longest_edge": longest},
        "max_image_size": {"longest_edge": side},
        "resample": RESAMPLE.index(resample),
    }


def _warp(step: Spec) -> dict[str, Any]:
    return {
        "do_resize": True,
        "size": {"height": step.height, "width": step.width},
        "resample": RESAMPLE.index(step.resample),
    }
