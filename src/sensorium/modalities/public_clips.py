"""Clip preparation of public checkpoints: from a ``video_preprocessor_config.json`` of transformers, and back.

transformers prepares clips with torchvision only: the geometry is the same here, resized by Pillow (``geometry`` says
how far the two are apart). Its files rarely tell which frames of a film to take, which is left to the caller there:
where they do not, ``clip_settings`` takes what the checkpoint's own examples do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..core import CapabilityError, Spec, nearest
from .fields import Fields
from .geometry import Resize
from .merged_patches import MergedPatches
from .picture_fields import CLIP_MEAN, CLIP_STD, IGNORED, Kind, exact, read_pixels, written_pixels
from .public_images import read_steps, written_steps
from .public_tiles import read_merged_patches, written_merged_patches
from .sampling import Evenly, Paced
from .video import Video

_FILE = "video_preprocessor_config.json"
_ENDING = "VideoProcessor"
_FRAMES, _RATE = 8, 2.0  # where the file says neither
_LEFT = (
    "do_sample_frames", "video_metadata", "return_metadata", "use_token_compression", "return_legacy_image_output",
    "pad_size",
)  # fmt: skip
_TOKENS = 128_000


def clip_settings(
    config: Mapping[str, Any], where: str = _FILE, *, kind: str | None = None
) -> tuple[Spec, dict[str, Any]]:
    """The Spec of the ``Video`` that prepares bytes as ``config`` says, and the arguments of the ``Pixels`` that
    normalises them.

    ``config`` is the content of a file that transformers wrote for Video-LLaVA, InternVL, Qwen2-VL or Qwen2.5-VL, or of
    the ``processor_config.json`` that holds it, or, where that is absent, of the ``preprocessor_config.json`` of the
    checkpoint's pictures; ``kind`` (such as "Qwen2VLVideoProcessor") is what wrote it, if the file does not say. Raises
    CapabilityError and ConfigError as ``image_settings`` does.
    """
    fields = Fields(config, where, "video_processor")
    name = fields.kind(kind)
    if name not in _KINDS:
        raise CapabilityError(
            f"{where}: video_processor_type: no preparation for {name}{_ENDING}{nearest(name, _KINDS)}"
        )
    known, reader = _KINDS[name]
    fields.ignore(*IGNORED, *_LEFT)
    sampling, steps = reader(fields, known)
    pixels = read_pixels(fields, known)
    fields.finish()
    return Spec(Video, sampling=sampling, geometry=steps, mean=None), pixels


def _read_starts(fields: Fields, known: Kind) -> tuple[Spec, list[Spec]]:
    fields.expect("do_pad", False)
    return _sampling(fields, "starts"), read_steps(fields, known)


def _read_middles(fields: Fields, known: Kind) -> tuple[Spec, list[Spec]]:
    fields.expect("do_pad", False)
    fields.expect("initial_shift", True)
    return _sampling(fields, "middles"), read_steps(fields, known)


def _sampling(fields: Fields, at: str) -> Spec:
    rate = fields.get("fps")
    if rate is None:
        return Spec(Evenly, frames=fields.whole("num_frames", _FRAMES), at=at)
    raise CapabilityError(
        f"{fields.where}: fps: only num_frames is supported for this class, found {rate!r:.80}"
    )


def _read_patches(fields: Fields, known: Kind) -> tuple[Spec, list[Spec]]:
    (step,) = read_merged_patches(fields, known)
    tokens = fields.whole("max_video_tokens", _TOKENS)
    if fields.flag("cap_pixels_per_frame", False):
        step = step.replace(tokens=tokens)
    least, most = fields.whole("min_frames", 4), fields.whole("max_frames", 768)
    if fields.get("num_frames") is not None:
        frames = round(fields.whole("num_frames", _FRAMES) / step.frames) * step.frames
        return Spec(Evenly, frames=max(step.frames, frames), at="starts"), [step]
    rate = fields.number("fps", _RATE)
    return Spec(Paced, rate=rate, least=least, most=most, multiple=step.frames), [step]


_AREA = {"shortest_edge": 128 * 28 * 28, "longest_edge": 28 * 28 * 768}
_KINDS: dict[str, tuple[Kind, Callable[[Fields, Kind], tuple[Spec, list[Spec]]]]] = {
    "VideoLlava": (
        Kind({"shortest_edge": 224}, square=False, crop=224, crops=True, mean=CLIP_MEAN, std=CLIP_STD),
        _read_starts,
    ),
    "InternVL": (Kind(exact(384), mean=CLIP_MEAN, std=CLIP_STD), _read_middles),
    "Qwen2VL": (Kind(_AREA, mean=CLIP_MEAN, std=CLIP_STD), _read_patches),
}  # the class names of transformers, without "VideoProcessor"


def clip_config(video: Spec, pixels: Spec | Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The content of a ``video_preprocessor_config.json`` with which transformers' AutoVideoProcessor prepares as
    ``video`` (the Spec of a ``Video``) and ``pixels`` (that of the network's ``Pixels``, or its arguments) do.

    Raises CapabilityError for a geometry or a choice of frames that no class of it has.
    """
    geometry = video.geometry if isinstance(video.geometry, list) else [video.geometry]
    steps: list[Spec] = [step for step in geometry if isinstance(step, Spec)]
    sampling = video.sampling or Spec(Evenly, frames=video.frames, fill=video.fill)
    patches = [step.cls for step in steps] == [MergedPatches]
    name = "Qwen2VL" if patches else "InternVL" if [step.cls for step in steps] == [Resize] else "VideoLlava"
    return {
        "video_processor_type": f"{name}{_ENDING}",
        **written_pixels(video, pixels),
        **(_patch_fields(steps[0]) if patches else written_steps(steps, name)),
        **_frame_fields(sampling, name),
    }


def _patch_fields(step: Spec) -> dict[str, Any]:
    found = written_merged_patches(step) | {"cap_pixels_per_frame": step.tokens is not None}
    return found if step.tokens is None else found | {"max_video_tokens": step.tokens}


def _frame_fields(sampling: Spec, name: str) -> dict[str, Any]:
    at = "middles" if name == "InternVL" else "starts"
    if sampling.cls is Evenly and sampling.at == at and not sampling.fill:
        return {"num_frames": sampling.frames}
    if sampling.cls is Paced and name == "Qwen2VL":
        return {"fps": sampling.rate, "min_frames": sampling.least, "max_frames": sampling.most}
    raise CapabilityError(f"transformers' {name}{_ENDING} does not choose frames by {sampling}")
