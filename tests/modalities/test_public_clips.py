"""The processors of clips in transformers need torchvision: whole frames are compared with its processors of pictures,
whose geometry is the same."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from transformers import GotOcr2ImageProcessorPil, VideoLlavaImageProcessor

from sensorium.core import CapabilityError, ConfigError, Spec
from sensorium.modalities import Clip, Video
from sensorium.modalities.geometry import NativePatches, Resize
from sensorium.modalities.merged_patches import MergedPatches
from sensorium.modalities.public_clips import clip_config, clip_settings
from sensorium.modalities.sampling import Evenly, Paced
from sensorium.nn.encoders.pixels import Pixels

LLAVA = {
    "crop_size": {"height": 24, "width": 24}, "data_format": "channels_first", "default_to_square": False,
    "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True, "do_pad": None, "do_rescale": True,
    "do_resize": True, "do_sample_frames": False, "fps": None, "num_frames": None, "return_metadata": False,
    "resample": 3, "size": {"shortest_edge": 24}, "video_metadata": None,
    "video_processor_type": "VideoLlavaVideoProcessor",
}  # fmt: skip
INTERNVL = {
    "do_normalize": True, "do_resize": True, "initial_shift": True, "num_frames": 4,
    "size": {"height": 28, "width": 28}, "video_processor_type": "InternVLVideoProcessor",
}  # fmt: skip
QWEN = {
    "patch_size": 7, "temporal_patch_size": 2, "merge_size": 2, "size": {"shortest_edge": 500, "longest_edge": 5000},
    "min_frames": 4, "max_frames": 768, "fps": 2, "video_processor_type": "Qwen2VLVideoProcessor",
}  # fmt: skip


def frames(count, height=45, width=61):
    return np.random.default_rng(count).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def check(config, processor, places, key):
    spec, pixels = clip_settings(config)
    video = spec.build()
    shown = frames(20)
    values = video.prepare(video.load_value(Clip(shown, 10.0)))
    found = processor([Pillow.fromarray(shown[place]) for place in places])
    theirs = np.moveaxis(np.stack(found[key]), 1, -1)
    assert values.dtype == torch.uint8
    assert np.abs(Pixels(**pixels)(values).numpy() - theirs).max() < 1e-6 * np.abs(theirs).max()


def test_video_llava():
    processor = VideoLlavaImageProcessor(size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24})
    check(LLAVA, processor, [0, 2, 5, 7, 10, 12, 15, 17], "pixel_values_images")


def test_internvl():
    check(
        INTERNVL, GotOcr2ImageProcessorPil(size={"height": 28, "width": 28}), [2, 7, 12, 17], "pixel_values"
    )


def test_qwen():
    spec, pixels = clip_settings(QWEN)
    patches = Spec(MergedPatches, patch=7, merge=2, frames=2, least=500, most=5000, resample="bicubic")
    assert spec.geometry == [patches]
    assert spec.sampling == Spec(Paced, rate=2.0, least=4, most=768, multiple=2)
    video = spec.build()
    raw = video.load_value((frames(60), 10.0))
    values = video.prepare(raw)
    assert video.layout(raw) == (6, 6, 8)
    assert Pixels(**pixels)(values.unflatten(-1, (2, 7, 7, 3))).shape == (288, 2, 7, 7, 3)


def test_variants_of_qwen():
    def read(**changes):
        return clip_settings(QWEN | changes)[0]

    assert read(fps=None, num_frames=7).sampling == Spec(Evenly, frames=8, at="starts")
    assert read(cap_pixels_per_frame=True).geometry[0].tokens == 128_000
    assert read(cap_pixels_per_frame=True, max_video_tokens=9).geometry[0].tokens == 9
    assert read(cap_pixels_per_frame=False).geometry[0].tokens is None
    plain = clip_settings({}, kind="Qwen2VLVideoProcessor")[0].geometry[0]
    assert (plain.least, plain.most) == (128 * 28 * 28, 28 * 28 * 768)


def test_older_files_are_those_of_pictures():
    older = {
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor", "min_pixels": 500,
        "max_pixels": 5000, "patch_size": 7, "temporal_patch_size": 2, "merge_size": 2,
    }  # fmt: skip
    assert clip_settings(older) == clip_settings(QWEN)
    nested = {
        "video_processor": QWEN,
        "image_processor": {"size": 3},
        "processor_class": "Qwen2_5_VLProcessor",
    }
    assert clip_settings(nested) == clip_settings(QWEN)


@pytest.mark.parametrize("config", [LLAVA, INTERNVL, QWEN, QWEN | {"cap_pixels_per_frame": True, "fps": 1.5}])
def test_what_is_written_is_read_again(config):
    video, pixels = clip_settings(config)
    written = json.loads(json.dumps(clip_config(video, Spec(Pixels, **pixels))))
    assert written["video_processor_type"] == config["video_processor_type"]
    assert clip_settings(written) == (video, pixels)
    assert Spec.from_json(json.loads(json.dumps(video.to_json()))) == video


@pytest.mark.parametrize(
    ("config", "error", "reason"),
    [
        (
            LLAVA | {"video_processor_type": "SmolVLMVideoProcessor"},
            CapabilityError,
            "no preparation for SmolVLMVideo",
        ),
        (LLAVA | {"fps": 2}, CapabilityError, "fps: only num_frames"),
        (LLAVA | {"do_center_crop": False}, CapabilityError, "do_center_crop: without it"),
        (LLAVA | {"patch_size": 2}, ConfigError, "v.json: patch_size: unknown field"),
        (LLAVA | {"num_frames": 0}, ConfigError, "num_frames: expected a whole number"),
        (INTERNVL | {"initial_shift": 2}, CapabilityError, "initial_shift: only True"),
        (QWEN | {"min_frames": 900}, ConfigError, "at most 768"),
        (QWEN | {"fps": 0}, ConfigError, "Paced.rate"),
        ({"size": 3}, ConfigError, "missing"),
    ],
)
def test_refuses(config, error, reason):
    with pytest.raises(error, match=reason):
        clip_settings(config, "v.json")[0].build()


def test_what_cannot_be_written():
    pixels = {"mean": 0.5, "std": 0.5, "rescale": 1 / 255}
    square = Spec(Resize, height=8, width=8)
    for video, reason in [
        (Spec(Video, geometry=square, mean=None, fill=True), "does not choose frames"),
        (Spec(Video, geometry=square, mean=None, sampling=Spec(Paced)), "does not choose frames"),
        (Spec(Video, geometry=Spec(NativePatches), mean=None), "no image processor for this geometry"),
    ]:
        with pytest.raises(CapabilityError, match=reason):
            clip_config(video, pixels)
