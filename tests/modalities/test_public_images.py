from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image as Pillow
from transformers import AutoImageProcessor

from sensorium.core import CapabilityError, ConfigError, DataError, Spec
from sensorium.modalities import Clip, Image, Video
from sensorium.modalities.geometry import CentralSquare, CentreCrop, NativePatches, Resize, ShortestEdge
from sensorium.modalities.public_images import image_config, image_settings
from sensorium.nn.encoders.pixels import Pixels, split_places

SIZES = [
    (1, 1), (1, 1000), (1000, 1), (2, 3), (5, 4), (17, 400), (31, 31), (32, 32), (33, 32), (32, 33), (37, 641),
    (64, 48), (63, 95), (100, 75), (113, 257), (240, 320), (256, 256), (301, 200), (480, 333), (2, 600),
]  # fmt: skip
IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}

#: Files as they lie on the hub (some shrunk): old ones without a type or with one number as size, new ones, odd ones.
CONFIGS = {
    "clip, old": {
        "crop_size": 224, "do_center_crop": True, "do_normalize": True, "do_resize": True, "resample": 3, "size": 224,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    },
    "clip, new": {
        "image_processor_type": "CLIPImageProcessor", "crop_size": {"height": 32, "width": 32}, "do_convert_rgb": True,
        "size": {"shortest_edge": 32}, "processor_class": "CLIPProcessor", "rescale_factor": 1 / 255,
    },
    "clip, odd crop": {
        "image_processor_type": "CLIPImageProcessorFast", "crop_size": {"height": 41, "width": 30},
        "size": {"shortest_edge": 33}, "resample": 1, "device": None, "disable_grouping": None, "do_pad": False,
    },
    "clip, exact": {"image_processor_type": "CLIPImageProcessor", "size": [20, 30], "do_center_crop": False},
    "siglip": {"image_processor_type": "SiglipImageProcessor", "size": {"height": 48, "width": 40}, "resample": 3},
    "siglip 2, fixed": {
        "image_processor_type": "SiglipImageProcessorFast", "size": {"height": 56, "width": 56}, "resample": 2,
        "crop_size": None, "default_to_square": True, "do_center_crop": None, "data_format": "channels_first",
        "input_data_format": None, "return_tensors": None, **HALVES,
    },
    "vit, old": {
        "do_normalize": True, "do_resize": True, "size": 32, "feature_extractor_type": "ViTFeatureExtractor",
        "resample": 2, **HALVES,
    },
    "vit, nearest": {"image_processor_type": "ViTImageProcessor", "size": {"height": 30, "width": 33}, "resample": 0},
    "mae": {
        "do_normalize": True, "do_resize": True, "feature_extractor_type": "ViTFeatureExtractor", "size": 28,
        "image_processor_type": "ViTImageProcessor", "image_mean": IMAGENET[0], "image_std": IMAGENET[1],
    },
    "beit, old": {
        "crop_size": 30, "do_center_crop": True, "feature_extractor_type": "BeitFeatureExtractor", "resample": 3,
        "size": 35, "reduce_labels": False, **HALVES,
    },
    "beit": {"image_processor_type": "BeitImageProcessor", "size": {"height": 32, "width": 32}},
    "dinov2": {
        "image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 37}, "do_center_crop": True,
        "crop_size": {"height": 32, "width": 32}, "image_mean": IMAGENET[0], "image_std": IMAGENET[1],
    },
    "bit": {"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 48}, "crop_size": 45, **HALVES},
    "resnet, old": {"feature_extractor_type": "ConvNextFeatureExtractor", "size": 35, "crop_pct": 0.875, "resample": 3},
    "resnet": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 49}, "crop_pct": 0.95},
    "convnext, warped": {"image_processor_type": "ConvNextImageProcessor", "size": {"shortest_edge": 384}},
    "efficientnet": {
        "image_processor_type": "EfficientNetImageProcessor", "size": {"height": 43, "width": 41}, "resample": 0,
        "do_center_crop": False, "image_mean": IMAGENET[0], "image_std": [0.47853944, 0.4732864, 0.47434163],
    },
    "align": {
        "image_processor_type": "EfficientNetImageProcessor", "size": {"height": 46, "width": 46}, "resample": 2,
        "do_center_crop": True, "crop_size": {"height": 39, "width": 39}, "do_normalize": False, "include_top": False,
        "rescale_factor": 1 / 127.5, "rescale_offset": True,
    },
    "efficientnet, all of it": {
        "image_processor_type": "EfficientNetImageProcessor", "size": 30, "rescale_factor": 1 / 127.5,
        "rescale_offset": True, "include_top": True, "image_std": [0.4, 0.5, 0.6],
    },
    "not rescaled": {
        "image_processor_type": "ViTImageProcessor", "size": 24, "do_rescale": False, "do_normalize": False
    },
    "only cropped": {"image_processor_type": "CLIPImageProcessor", "do_resize": False, "crop_size": 50},
}  # fmt: skip


def picture(height, width, seed=0):
    """Noise on a gradient: every rounding shows, and the middle of a resampling filter too."""
    noise = np.random.default_rng(seed).integers(0, 120, (height, width, 3))
    ramp = np.linspace(0, 135, height)[:, None, None] + np.zeros((1, width, 3))
    return (noise + ramp).astype(np.uint8)


def reference(config):
    name = config.get("image_processor_type") or config["feature_extractor_type"]
    for ending in ("Fast", "FeatureExtractor", "ImageProcessor"):
        name = name.removesuffix(ending)
    return getattr(transformers, f"{name}ImageProcessorPil")(**config)


def expected(processor, shown):
    """The reference's bytes before normalisation, and its numbers after, channels last."""
    plain = {"do_normalize": False, "do_rescale": False}
    if hasattr(processor, "include_top"):
        plain |= {"include_top": False}
    (values,) = processor(shown, **plain)["pixel_values"]
    (numbers,) = processor(shown)["pixel_values"]
    assert values.dtype == np.uint8
    return np.moveaxis(values, 0, -1), np.moveaxis(numbers, 0, -1)


def check(config, shown):
    image, pixels = image_settings(config)
    modality = image.build()
    values = modality.prepare(modality.load_value(shown))
    theirs, numbers = expected(reference(config), shown)
    assert values.dtype == torch.uint8
    assert np.array_equal(values.numpy(), theirs)
    found = Pixels(**pixels)(values)
    assert np.abs(found.numpy() - numbers).max() <= 1e-6 * max(1.0, np.abs(numbers).max())


@pytest.mark.parametrize("name", CONFIGS)
def test_equals_the_reference(name):
    sizes = SIZES if name in ("clip, new", "clip, odd crop", "siglip", "resnet") else SIZES[3:17:3]
    for seed, size in enumerate(sizes):
        check(CONFIGS[name], Pillow.fromarray(picture(*size, seed=seed)))


def test_the_longest_strip_at_full_size():
    check({"image_processor_type": "CLIPImageProcessor"}, Pillow.fromarray(picture(1, 1000)))


def modes():
    colours = Pillow.fromarray(picture(45, 61))
    alpha = Pillow.fromarray(picture(45, 61, seed=1)[..., 0])
    clear = colours.copy()
    clear.putalpha(alpha)
    palette = colours.quantize(32)
    exif = Pillow.Exif()
    exif[0x0112] = 6
    yield "grey", colours.convert("L"), {}
    yield "grey with alpha", clear.convert("LA"), {}
    yield "black and white", colours.convert("1"), {}
    yield "palette", palette, {}
    yield "transparent palette", palette, {"transparency": 3}
    yield "palette with alphas", palette, {"transparency": bytes(range(0, 256, 8))}
    yield "alpha", clear, {}
    yield "transparent colour", colours, {"transparency": colours.getpixel((0, 0))}
    yield "transparent grey", colours.convert("L"), {"transparency": 99}
    yield "16 bits", Pillow.fromarray(picture(45, 61)[..., 0].astype(np.uint16) * 3), {}
    yield "turned", colours, {"exif": exif.tobytes()}


@pytest.mark.parametrize(("name", "shown", "options"), [pytest.param(*m, id=m[0]) for m in modes()])
def test_every_mode_as_a_file(name, shown, options):
    buffer = io.BytesIO()
    shown.save(buffer, "PNG", **options)
    config = CONFIGS["clip, new"]
    modality = image_settings(config)[0].build()
    theirs, _ = expected(reference(config), Pillow.open(buffer))
    assert np.array_equal(modality.prepare(modality.load_value(buffer.getvalue())).numpy(), theirs)


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "HSV", "I", "F", "RGBX", "PA", "RGBa", "I;16B"])
def test_every_mode_in_memory(mode):
    shown = Pillow.fromarray(picture(45, 61))
    match mode:
        case "PA":
            shown = shown.convert("RGBA").convert("PA")
        case "RGBa":
            shown = shown.convert("RGBA").convert("RGBa")
        case "LAB":
            shown = Pillow.merge("LAB", shown.split())
        case "I" | "F":
            shown = shown.convert("L").convert(mode)
        case "I;16B":
            shown = Pillow.new(mode, (61, 45), 200)
        case _:
            shown = shown.convert(mode)
    check(CONFIGS["clip, new"], shown)


def test_jpegs_are_decoded_whole():
    buffer = io.BytesIO()
    Pillow.fromarray(picture(600, 800)).save(buffer, "JPEG")
    config = CONFIGS["clip, new"]
    modality = image_settings(config)[0].build()
    raw = modality.load_value(buffer.getvalue())
    assert raw.shape == (600, 800, 3)
    theirs, _ = expected(reference(config), Pillow.open(buffer))
    assert np.array_equal(modality.prepare(raw).numpy(), theirs)
    buffer.seek(0)
    small = Pillow.open(buffer).convert("CMYK")
    again = io.BytesIO()
    small.save(again, "JPEG")
    theirs, _ = expected(reference(config), Pillow.open(again))
    assert np.array_equal(modality.prepare(modality.load_value(again.getvalue())).numpy(), theirs)


@pytest.mark.parametrize("most", [1, 7, 16, 64])
@pytest.mark.parametrize("size", SIZES)
def test_native_patches(size, most):
    config = {"image_processor_type": "Siglip2ImageProcessor", "patch_size": 4, "max_num_patches": most}
    image, pixels = image_settings(config)
    modality = image.build()
    shown = picture(*size)
    theirs = reference(config)(Pillow.fromarray(shown))
    (numbers,), ((rows, columns),) = theirs["pixel_values"], theirs["spatial_shapes"]
    values, places = split_places(modality.prepare(shown)[None], 4)
    assert len(values[0]) == rows * columns == theirs["pixel_attention_mask"][0].sum()
    assert torch.equal(
        places[0], torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).reshape(-1, 2)
    )
    ours = Pixels(**pixels)(values)[0].flatten(1)
    assert np.abs(ours.numpy() - numbers[: rows * columns]).max() < 1e-6


def test_native_patches_of_real_sizes():
    reference_size = (
        transformers.models.siglip2.image_processing_pil_siglip2.get_image_size_for_max_num_patches
    )
    draw = np.random.default_rng(0)
    for most in (256, 729, 1024):
        step = NativePatches(patch=16, most=most)
        for height, width in draw.integers(1, 3000, (40, 2)).tolist():
            assert step.size(height, width) == reference_size(height, width, 16, most)


def test_frames_of_videos():
    config = {
        "image_processor_type": "VideoMAEImageProcessor",
        "size": {"shortest_edge": 35},
        "crop_size": 32,
    }
    older = {"feature_extractor_type": "VideoMAEFeatureExtractor", "size": 35, "crop_size": 32}
    assert image_settings(config) == image_settings(older)
    spec, pixels = image_settings(config)
    video = spec.replace(frames=4).build()
    assert isinstance(video, Video)
    frames = np.stack([picture(61, 83, seed) for seed in range(4)])
    values = video.prepare(video.load_value(Clip(frames, 5.0)))
    assert (values.shape, values.dtype) == ((4, 32, 32, 3), torch.uint8)
    assert (video.blank().shape, video.blank().dtype) == ((4, 32, 32, 3), torch.uint8)
    processor = reference(config)
    (theirs,) = processor(list(frames), do_rescale=False, do_normalize=False)["pixel_values"]
    assert np.array_equal(values.permute(0, 3, 1, 2).numpy(), theirs)
    (numbers,) = processor(list(frames))["pixel_values"]
    assert np.abs(Pixels(**pixels)(values).permute(0, 3, 1, 2).numpy() - numbers).max() < 1e-6


@pytest.mark.parametrize("name", [*CONFIGS, "siglip 2", "videomae"])
def test_what_is_written_is_opened_and_does_the_same(name, tmp_path):
    config = (
        CONFIGS.get(name)
        or {
            "siglip 2": {
                "image_processor_type": "Siglip2ImageProcessor",
                "patch_size": 8,
                "max_num_patches": 50,
            },
            "videomae": {
                "image_processor_type": "VideoMAEImageProcessor",
                "size": {"shortest_edge": 35},
                "crop_size": 32,
            },
        }[name]
    )
    image, pixels = image_settings(config)
    processor = type(reference(config)).__name__.removesuffix("Pil")
    written = image_config(image, Spec(Pixels, **pixels), processor)
    assert written == image_config(image, pixels, processor)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(written))
    opened = AutoImageProcessor.from_pretrained(tmp_path)
    assert type(opened) is type(reference(config))
    shown = Pillow.fromarray(picture(59, 77))
    ours, theirs = opened(shown)["pixel_values"], reference(config)(shown)["pixel_values"]
    assert np.abs(np.stack(ours) - np.stack(theirs)).max() < 1e-5
    again, numbers = image_settings(json.loads((tmp_path / "preprocessor_config.json").read_text()))
    assert again == image
    assert numbers.keys() == pixels.keys()
    assert all(numbers[name] == pytest.approx(pixels[name]) for name in pixels)


def test_our_own_normalisation_can_be_written():
    image = Spec(Image, geometry=Spec(Resize, height=8, width=8), mean=[0.1, 0.2, 0.3], std=0.25)
    written = image_config(image, processor="ViTImageProcessor")
    assert written["image_mean"] == [0.1, 0.2, 0.3]
    shown = Pillow.fromarray(picture(9, 12))
    (theirs,) = transformers.ViTImageProcessorPil(**written)(shown)["pixel_values"]
    assert np.allclose(image.build().prepare(np.asarray(shown)).permute(2, 0, 1), theirs, atol=1e-6)


def test_what_cannot_be_written():
    pixels = {"mean": 0.5, "std": 0.5, "rescale": 1 / 255}
    square = Spec(Resize, height=32, width=32)
    cases = [
        (Spec(Image, size=32, mean=None), "CLIPImageProcessor", "the central square"),
        (
            Spec(Image, geometry=[Spec(CentralSquare, size=4)], mean=None),
            "CLIPImageProcessor",
            "CentralSquare",
        ),
        (Spec(Image, geometry=[square, square], mean=None), "CLIPImageProcessor", "Resize, then Resize"),
        (Spec(Image, geometry=square, mean=None), "ConvNextImageProcessor", "crops squares below 384"),
    ]
    for image, processor, reason in cases:
        with pytest.raises(CapabilityError, match=reason):
            image_config(image, pixels, processor)
    with pytest.raises(ConfigError, match="what normalises them"):
        image_config(Spec(Image, geometry=square, mean=None))


def clip(**changes):
    return CONFIGS["clip, new"] | changes


@pytest.mark.parametrize(
    ("config", "error", "reason"),
    [
        ({"size": 224}, ConfigError, "x.json: image_processor_type: .*missing"),
        ({"auto_map": {"AutoImageProcessor": "mine.Mine"}}, CapabilityError, "x.json: auto_map: names code"),
        ({"image_processor_type": "PixtralImageProcessor"}, CapabilityError, "no preparation for PixtralImage"),
        (clip(feature_extractor_type="ViTFeatureExtractor"), ConfigError, "contradictory: CLIP and ViT"),
        (clip(crop_pct=0.9), ConfigError, "x.json: crop_pct: unknown field"),
        (clip(rescale_offset=True), ConfigError, "rescale_offset: unknown field"),
        (clip(sise=3), ConfigError, r"sise: unknown field \(did you mean 'size'"),
        (clip(size={"shortest_edge": 3, "height": 4}), ConfigError, "size: expected height and width, or"),
        (clip(size={"shortest_edge": 3, "longest_edge": 4}), CapabilityError, "no geometry for longest_edge and short"),
        (clip(size={"shortest_edge": 0}), ConfigError, "size: expected whole numbers of pixels"),
        (clip(size={"height": 2.5, "width": True}), ConfigError, "size: expected whole numbers of pixels"),
        (clip(size="large"), ConfigError, "size: expected whole numbers of pixels"),
        (clip(crop_size={"shortest_edge": 3}), ConfigError, "crop_size: expected height and width"),
        (clip(resample=9), ConfigError, "resample: expected a filter of Pillow, 0 to 5, found 9"),
        (clip(resample="bicubic"), ConfigError, "resample: expected a whole number"),
        (clip(do_resize="yes"), ConfigError, "do_resize: expected true or false, found 'yes'"),
        (clip(do_center_crop=False), CapabilityError, "do_center_crop: without it, pictures keep shapes"),
        (clip(do_pad=True), CapabilityError, "do_pad: only False is supported"),
        (clip(image_mean=[0.5]), ConfigError, "image_mean: expected a number for each of 3 channels"),
        (clip(image_std=[0.5, 0.0, 0.5]), ConfigError, "image_std: expected numbers other than 0"),
        (clip(rescale_factor=0), ConfigError, "rescale_factor: expected numbers other than 0"),
        ({"image_processor_type": "ViTImageProcessor", "do_center_crop": True}, ConfigError, "crop_size: do_center"),
        ({"image_processor_type": "ConvNextImageProcessor", "size": [4, 4]}, ConfigError, "expected shortest_edge"),
        ({"image_processor_type": "Siglip2ImageProcessor", "do_resize": False}, CapabilityError, "do_resize"),
        ([], ConfigError, "x.json: expected an object, found list"),
    ],
)  # fmt: skip
def test_refuses(config, error, reason):
    with pytest.raises(error, match=reason):
        image_settings(config, "x.json")


def test_a_file_without_a_type_and_a_nested_one():
    plain = {key: value for key, value in CONFIGS["clip, new"].items() if key != "image_processor_type"}
    named = image_settings(CONFIGS["clip, new"])
    assert image_settings(plain, kind="CLIPImageProcessor") == named
    assert (
        image_settings({"image_processor": CONFIGS["clip, new"], "processor_class": "CLIPProcessor"}) == named
    )


def test_settings_are_json():
    for config in CONFIGS.values():
        image, pixels = image_settings(config)
        assert Spec.from_json(json.loads(json.dumps(image.to_json()))) == image
        assert json.loads(json.dumps(pixels)) == pixels


def test_strips_beyond_memory():
    modality = Image(
        geometry=[Spec(ShortestEdge, size=224).build(), CentreCrop(height=224, width=224)], mean=None
    )
    with pytest.raises(
        DataError, match="1 x 9000 pixels is too long and thin: it would become 224 x 2016000"
    ):
        modality.prepare(np.zeros((9000, 1, 3), np.uint8))
