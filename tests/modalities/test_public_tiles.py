"""Preparation of public multimodal LLMs against the Pillow processors of transformers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image as Pillow
from transformers import AutoImageProcessor

from sensorium.core import CapabilityError, ConfigError, DataError, Spec
from sensorium.modalities import Image
from sensorium.modalities.geometry import LongestEdge, PadSquare, Resize
from sensorium.modalities.merged_patches import MergedPatches
from sensorium.modalities.public_images import image_config, image_settings
from sensorium.modalities.tiles import AspectGrid, EdgeGrid, FixedWindows, PanAndScan
from sensorium.nn.encoders.pixels import Pixels

SIZES = [
    (1, 1), (1, 10_000), (10_000, 1), (2, 3), (5, 4), (8, 8), (16, 16), (17, 200), (31, 31), (33, 32), (64, 48),
    (63, 95), (100, 75), (113, 257), (240, 320), (301, 200), (97, 96), (600, 31),
]  # fmt: skip
PLAIN = {"do_rescale": False, "do_normalize": False}
HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}

#: Files as they lie on the hub, shrunk.
WHOLE = {
    "llava 1.5": {
        "crop_size": {"height": 30, "width": 30}, "do_center_crop": True, "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_processor_type": "CLIPImageProcessor", "resample": 3,
        "processor_class": "LlavaProcessor", "rescale_factor": 0.00392156862745098, "size": {"shortest_edge": 30},
    },
    "llava, padded": {
        "image_processor_type": "LlavaImageProcessor", "do_pad": True, "size": {"shortest_edge": 24},
        "crop_size": {"height": 24, "width": 24},
    },
    "llava": {"image_processor_type": "LlavaImageProcessor", "size": {"shortest_edge": 24}, "crop_size": 24},
    "git": {
        "image_processor_type": "CLIPImageProcessor", "processor_class": "GitProcessor", "size": {"shortest_edge": 24},
        "crop_size": {"height": 24, "width": 24},
    },
    "paligemma": {
        "do_convert_rgb": None, "do_normalize": True, "do_rescale": True, "do_resize": True, "image_seq_length": 256,
        "image_processor_type": "SiglipImageProcessor", "processor_class": "PaliGemmaProcessor", "resample": 3,
        "rescale_factor": 1 / 255, "size": {"height": 28, "width": 28}, **HALVES,
    },
    "gemma 3": {
        "do_convert_rgb": None, "do_normalize": True, "do_pan_and_scan": None, "do_rescale": True, "do_resize": True,
        "image_processor_type": "Gemma3ImageProcessor", "image_seq_length": 256, "pan_and_scan_max_num_crops": None,
        "pan_and_scan_min_crop_size": None, "pan_and_scan_min_ratio_to_activate": None, "resample": 2,
        "processor_class": "Gemma3Processor", "rescale_factor": 1 / 255, "size": {"height": 56, "width": 56}, **HALVES,
    },
    "blip 2": {
        "do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "resample": 3,
        "image_processor_type": "BlipImageProcessor", "processor_class": "Blip2Processor",
        "rescale_factor": 1 / 255, "size": {"height": 36, "width": 36},
    },
    "idefics": {
        "image_processor_type": "IdeficsImageProcessor", "image_num_channels": 3, "image_size": 22,
        "processor_class": "IdeficsProcessor",
    },
    "video-llava": {
        "image_processor_type": "VideoLlavaImageProcessor", "size": {"shortest_edge": 24},
        "crop_size": {"height": 24, "width": 24}, "do_center_crop": True, "processor_class": "VideoLlavaProcessor",
    },
    "internvl, alone": {
        "image_processor_type": "GotOcr2ImageProcessorFast", "size": {"height": 28, "width": 28},
        "crop_to_patches": False,
    },
    "smolvlm, not split": {
        "image_processor_type": "SmolVLMImageProcessor", "do_image_splitting": False, "size": {"longest_edge": 60},
        "max_image_size": {"longest_edge": 20},
    },
}  # fmt: skip
TILED = {
    "llava-next": {
        "aspect_ratio_setting": "anyres", "crop_size": {"height": 24, "width": 24}, "do_center_crop": True,
        "do_convert_rgb": True, "do_normalize": True, "do_pad": True, "do_rescale": True, "do_resize": True,
        "image_grid_pinpoints": [[24, 48], [48, 24], [48, 48], [72, 24], [24, 72]], "resample": 3,
        "image_processor_type": "LlavaNextImageProcessor", "processor_class": "LlavaNextProcessor",
        "rescale_factor": 1 / 255, "size": {"shortest_edge": 24},
    },
    "internvl": {
        "crop_size": None, "crop_to_patches": True, "data_format": "channels_first", "default_to_square": True,
        "device": None, "disable_grouping": None, "do_center_crop": None, "do_convert_rgb": True, "do_normalize": True,
        "do_rescale": True, "do_resize": True, "image_processor_type": "GotOcr2ImageProcessorFast", "max_patches": 12,
        "min_patches": 1, "input_data_format": None, "processor_class": "InternVLProcessor", "resample": 3,
        "return_tensors": None, "size": {"height": 28, "width": 28},
    },
    "got-ocr 2, oblong": {
        "image_processor_type": "GotOcr2ImageProcessor", "crop_to_patches": True, "min_patches": 3, "max_patches": 7,
        "size": {"height": 20, "width": 32}, "resample": 2,
    },
    "idefics 3": {
        "do_convert_rgb": True, "do_image_splitting": True, "do_normalize": True, "do_pad": True, "do_rescale": True,
        "do_resize": True, "image_processor_type": "Idefics3ImageProcessor", "max_image_size": {"longest_edge": 36},
        "processor_class": "Idefics3Processor", "resample": 1, "rescale_factor": 1 / 255, "size": {"longest_edge": 144},
        **HALVES,
    },
    "smolvlm": {
        "image_processor_type": "SmolVLMImageProcessor", "max_image_size": {"longest_edge": 32},
        "size": {"longest_edge": 100}, "do_image_splitting": True, "do_pad": True,
        "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": 32}},
    },
    "gemma 3, pan and scan": {
        "image_processor_type": "Gemma3ImageProcessor", "do_pan_and_scan": True, "pan_and_scan_min_crop_size": 16,
        "pan_and_scan_max_num_crops": 4, "pan_and_scan_min_ratio_to_activate": 1.2, "size": {"height": 28, "width": 20},
    },
}  # fmt: skip
MERGED = {
    "qwen2-vl": {
        "min_pixels": 400, "max_pixels": 12_800, "patch_size": 5, "temporal_patch_size": 2, "merge_size": 2,
        "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2VLProcessor",
    },
    "qwen2.5-vl": {
        "image_processor_type": "Qwen2VLImageProcessorFast", "size": {"shortest_edge": 300, "longest_edge": 5000},
        "patch_size": 7, "merge_size": 1, "temporal_patch_size": 1, "do_pad": None, "default_to_square": True,
        "data_format": "channels_first", "crop_size": None,
    },
    "qwen2-vl, as it is": {"image_processor_type": "Qwen2VLImageProcessor"},
}  # fmt: skip


def picture(height, width, seed=0):
    """Noise on a gradient: every rounding shows, and the middle of a resampling filter too."""
    noise = np.random.default_rng(seed).integers(0, 120, (height, width, 3))
    ramp = np.linspace(0, 135, height)[:, None, None] + np.zeros((1, width, 3))
    return (noise + ramp).astype(np.uint8)


def reference(config):
    name = config["image_processor_type"].removesuffix("Fast")
    return getattr(transformers, f"{name}Pil" if "Video" not in name else name)(**config)


def their_pixels(processor, shown, **options):
    """[n, h, w, 3] of one picture."""
    found = processor(shown, **options)
    if isinstance(processor, transformers.VideoLlavaImageProcessor):
        found = found["pixel_values_images"]
    elif not isinstance(found, list):
        found = found["pixel_values"]
    values = np.stack([np.asarray(value) for value in found])
    values = values[0] if values.ndim == 5 else values
    return np.moveaxis(values, -3, -1)


def check(config, shown):
    spec, pixels = image_settings(config)
    image = spec.build()
    raw = image.load_value(shown)
    values = image.prepare(raw)
    processor = reference(config)
    theirs = their_pixels(processor, shown, **PLAIN)
    assert values.dtype == torch.uint8
    assert image.blank().dtype == torch.uint8
    assert image.blank().shape[1 if values.ndim == 4 else 0 :] == values.shape[1 if values.ndim == 4 else 0 :]
    mine = values if values.ndim == 4 else values[None]
    assert np.array_equal(mine.numpy(), theirs)
    numbers = their_pixels(processor, shown)
    found = Pixels(**pixels)(mine)
    assert np.abs(found.numpy() - numbers).max() <= 1e-6 * max(1.0, np.abs(numbers).max())
    return image.layout(raw), len(mine)


@pytest.mark.parametrize("name", WHOLE)
def test_whole_pictures_equal_the_reference(name):
    for seed, size in enumerate(SIZES[3:-1]):
        assert check(WHOLE[name], Pillow.fromarray(picture(*size, seed=seed))) == (None, 1)


@pytest.mark.parametrize("name", TILED)
def test_tiles_equal_the_reference(name):
    counts = {
        check(TILED[name], Pillow.fromarray(picture(*size, seed=seed)))[1] for seed, size in enumerate(SIZES)
    }
    assert len(counts) > 1


@pytest.mark.parametrize("mode", ["L", "LA", "1", "P", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize(
    "config", [TILED["llava-next"], TILED["internvl"], TILED["smolvlm"], WHOLE["blip 2"]]
)
def test_every_mode(config, mode):
    if mode == "I;16":
        shown = Pillow.fromarray(picture(45, 90)[..., 0].astype(np.uint16) * 3)
    else:
        colours = Pillow.fromarray(picture(45, 90))
        colours.putalpha(Pillow.fromarray(picture(45, 90, seed=1)[..., 0]))
        shown = colours.convert(mode) if mode in ("LA", "RGBA") else colours.convert("RGB").convert(mode)
    check(config, shown)


def their_patches(processor, shown, config, **options):
    """The reference's patches, channels last, and its grid."""
    found = processor(shown, **options)
    side, frames = config.get("patch_size", 14), config.get("temporal_patch_size", 2)
    values = np.asarray(found["pixel_values"]).reshape(-1, 3, frames, side, side)
    return np.moveaxis(values, 1, -1), tuple(int(n) for n in found["image_grid_thw"][0])


@pytest.mark.parametrize("name", MERGED)
def test_merged_patches_equal_the_reference(name):
    config = MERGED[name]
    spec, pixels = image_settings(config)
    image, processor = spec.build(), reference(config)
    for seed, size in enumerate(SIZES):
        shown = Pillow.fromarray(picture(*size, seed=seed))
        raw = image.load_value(shown)
        if max(size) > 200 * min(size):
            with pytest.raises(ValueError, match="aspect ratio"):
                processor(shown)
            for ask in (image.prepare, image.layout):
                with pytest.raises(DataError, match="too long and thin: one side has more than 200 times"):
                    ask(raw)
            continue
        values = image.prepare(raw)
        theirs, grid = their_patches(processor, shown, config, **PLAIN)
        assert image.layout(raw) == grid
        assert values.dtype == torch.uint8
        assert len(values) == np.prod(grid)
        assert np.array_equal(values.numpy(), theirs.reshape(len(theirs), -1))
        numbers, _ = their_patches(processor, shown, config)
        found = Pixels(**pixels)(values.unflatten(-1, theirs.shape[1:]))
        assert np.abs(found.numpy() - numbers).max() < 1e-6 * np.abs(numbers).max()


@pytest.mark.parametrize("name", [*WHOLE, *TILED, *MERGED])
def test_what_is_written_is_opened_and_does_the_same(name, tmp_path):
    config = (WHOLE | TILED | MERGED)[name]
    image, pixels = image_settings(config)
    processor = config["image_processor_type"].removesuffix("Fast")
    written = image_config(image, Spec(Pixels, **pixels), processor)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(written))
    opened = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(opened) is type(reference(config))
    shown = Pillow.fromarray(picture(59, 97))
    if name in MERGED:
        ours, theirs = opened(shown)["pixel_values"], reference(config)(shown)["pixel_values"]
    else:
        ours, theirs = their_pixels(opened, shown), their_pixels(reference(config), shown)
    assert np.abs(np.asarray(ours) - np.asarray(theirs)).max() < 1e-5
    again, numbers = image_settings(json.loads((tmp_path / "preprocessor_config.json").read_text()))
    assert again == image
    assert all(numbers[key] == pytest.approx(pixels[key]) for key in pixels)
    assert Spec.from_json(json.loads(json.dumps(image.to_json()))) == image


def test_layouts():
    def layout(config, height, width):
        return image_settings(config)[0].build().layout(picture(height, width))

    assert layout(TILED["llava-next"], 30, 70) == (30, 70)
    assert layout(TILED["internvl"], 56, 112) == (2, 4)
    assert layout(TILED["internvl"], 20, 20) == (1, 1)
    assert layout(TILED["smolvlm"], 50, 100) == (2, 4)
    assert layout(TILED["gemma 3, pan and scan"], 50, 100) is None
    assert layout(WHOLE["llava 1.5"], 50, 100) is None
    config = TILED["smolvlm"] | {"size": {"longest_edge": 32}}
    assert layout(config, 50, 100) == (0, 0)


def test_rows_and_columns_are_those_of_the_reference():
    config = TILED["idefics 3"]
    image, processor = image_settings(config)[0].build(), reference(config)
    for size in SIZES:
        found = processor(Pillow.fromarray(picture(*size)), return_row_col_info=True)
        assert image.layout(picture(*size)) == (found["rows"][0][0], found["cols"][0][0])


def test_real_sizes_give_real_counts():
    """Only the counts: the values of large tiles are those of small ones."""
    draw = np.random.default_rng(0)
    qwen = transformers.Qwen2VLImageProcessorPil()
    step = MergedPatches()
    intern = transformers.GotOcr2ImageProcessorPil(size={"height": 448, "width": 448}, crop_to_patches=True)
    grid = AspectGrid(height=448, width=448)
    smol = transformers.SmolVLMImageProcessorPil(
        size={"longest_edge": 2048}, max_image_size={"longest_edge": 512}
    )
    edges = EdgeGrid(side=512, longest=2048)
    for height, width in draw.integers(1, 4000, (200, 2)).tolist():
        rows, columns = grid.layout(height, width)
        tiles = rows * columns + (rows * columns > 1)
        assert tiles == intern.get_number_of_image_patches(height, width)
        assert edges.layout(height, width) == smol.get_number_of_image_patches(height, width)[1:]
        if max(height, width) <= 200 * min(height, width):
            assert np.prod(step.layout(height, width)) == qwen.get_number_of_image_patches(height, width)


def test_the_processor_around_it_decides():
    """InternVL's asks for tiles and Gemma 3's for none, whatever the file says."""
    alone = {"image_processor_type": "GotOcr2ImageProcessor", "crop_to_patches": False}
    assert image_settings(alone)[0].geometry[0].cls is Resize
    assert image_settings(alone | {"processor_class": "InternVLProcessor"})[0].geometry[0].cls is AspectGrid
    nested = {"image_processor": alone, "processor_class": "InternVLProcessor", "image_seq_length": 256}
    assert image_settings(nested)[0].geometry[0].cls is AspectGrid
    scanned = TILED["gemma 3, pan and scan"]
    assert image_settings(scanned)[0].geometry[0].cls is PanAndScan
    assert image_settings(scanned | {"processor_class": "Gemma3Processor"})[0].geometry[0].cls is Resize


def next_(**changes):
    return TILED["llava-next"] | changes


@pytest.mark.parametrize(
    ("config", "error", "reason"),
    [
        (next_(aspect_ratio_setting="pad"), CapabilityError, "aspect_ratio_setting: only 'anyres'"),
        (next_(size={"shortest_edge": 25}), CapabilityError, r"size: only that of the crop \(24\)"),
        (next_(crop_size={"height": 24, "width": 20}), CapabilityError, "crop_size: only squares"),
        (next_(image_grid_pinpoints=[[24, 47]]), ConfigError, "pinpoints: expected pairs of multiples of 24"),
        (next_(image_grid_pinpoints=[]), ConfigError, "image_grid_pinpoints"),
        (next_(image_grid_pinpoints="(1x1),...,(6x6)"), ConfigError, "image_grid_pinpoints"),
        (next_(do_image_splitting=True), ConfigError, "do_image_splitting: unknown field"),
        (next_(do_resize=False), CapabilityError, "do_resize"),
        (next_(image_grid_pinpoints=[[24 * 80, 24 * 80]]), ConfigError, "6,400 tiles of one picture, the limit is 4"),
        (TILED["smolvlm"] | {"size": {"height": 4, "width": 4}}, CapabilityError, "size: only longest_edge"),
        (TILED["smolvlm"] | {"size": {"longest_edge": "4"}}, ConfigError, "size: expected whole numbers"),
        (TILED["smolvlm"] | {"max_image_size": {"longest_edge": 1}}, ConfigError, "10,000 tiles"),
        (TILED["internvl"] | {"min_patches": 13}, ConfigError, "AspectGrid.most must be at least 13"),
        (TILED["internvl"] | {"max_patches": 10**9}, ConfigError, "tiles of one picture"),
        (TILED["internvl"] | {"size": {"shortest_edge": 4}}, CapabilityError, "size: no geometry for shortest_edge"),
        (MERGED["qwen2-vl"] | {"min_pixels": 99_999}, ConfigError, "size: expected two whole numbers"),
        (MERGED["qwen2-vl"] | {"size": {"height": 3, "width": 3}}, ConfigError, "size: expected shortest_edge and"),
        (MERGED["qwen2-vl"] | {"patch_size": 0}, ConfigError, "patch_size: expected a whole number"),
        (WHOLE["llava 1.5"] | {"image_size": 3}, ConfigError, "image_size: unknown field"),
    ],
)  # fmt: skip
def test_refuses(config, error, reason):
    with pytest.raises(error, match=reason):
        image_settings(config, "x.json")[0].build()


def test_what_cannot_be_written():
    pixels = {"mean": 0.5, "std": 0.5, "rescale": 1 / 255}
    cases = [
        (Spec(FixedWindows), "FixedWindows"),
        ([Spec(Resize, height=8, width=8), Spec(EdgeGrid, side=4, longest=8)], "Resize, then EdgeGrid"),
        ([Spec(LongestEdge, size=8), Spec(Resize, height=4, width=3)], "LongestEdge, then Resize"),
    ]
    for geometry, reason in cases:
        with pytest.raises(CapabilityError, match=reason):
            image_config(Spec(Image, geometry=geometry, mean=None), pixels)
    image, pixels = image_settings(WHOLE["llava, padded"])
    red = image.replace(geometry=[Spec(PadSquare, colour=[255, 0, 0]), *image.geometry[1:]])
    with pytest.raises(CapabilityError, match="mean colour only"):
        image_config(red, pixels, "LlavaImageProcessor")
