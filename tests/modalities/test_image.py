from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from sensorium.core import CapabilityError, ConfigError, DataError
from sensorium.modalities import Image
from sensorium.modalities.geometry import NativePatches
from sensorium.modalities.pixels import orientation

IMAGE = Image(size=16)


def picture(width=40, height=30, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png_header(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    data = b"IDAT" + zlib.compress(b"")
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", len(data) - 4) + data + bytes(4)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP", "GIF", "JPEG"])
def test_reads_every_format(kind, tmp_path):
    flat = np.full((20, 30, 3), (10, 200, 90), np.uint8)
    content = encoded(Pillow.fromarray(flat), kind)
    file = tmp_path / "a.png"  # the content decides, not the name
    file.write_bytes(content)
    for source in (content, file, str(file)):
        raw = IMAGE.load_value(source)
        assert raw.shape == (20, 30, 3)
        assert raw.dtype == np.uint8
        assert np.abs(raw.astype(int) - flat).max() <= 4


def test_rows_are_first_and_values_are_normalised():
    raw = np.zeros((16, 16, 3), np.uint8)
    raw[2, 5] = (255, 0, 51)
    values = Image(size=16, mean=[0.5, 0.0, 0.2], std=[0.5, 1.0, 0.1]).prepare(raw)
    assert values.dtype == torch.float32
    assert values.shape == (16, 16, 3)
    assert torch.allclose(values[2, 5], torch.tensor([1.0, 0.0, 0.0]), atol=1e-6)
    assert torch.allclose(values[5, 2], torch.tensor([-1.0, 0.0, -2.0]), atol=1e-6)


def test_a_picture_of_the_right_size_is_not_resampled():
    raw = picture(16, 16)
    assert torch.allclose(IMAGE.prepare(raw), torch.from_numpy(raw).float() / 127.5 - 1, atol=1e-6)


def test_takes_the_central_square_without_aliases():
    wide = np.zeros((64, 192, 3), np.uint8)
    wide[:, 64:128] = 255
    assert (IMAGE.prepare(wide)[2:-2, 2:-2] > 0.95).all()
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than the result can show: must become an even grey
    assert IMAGE.prepare(stripes)[2:-2, 2:-2].abs().max() < 0.05


def test_extreme_shapes():
    for shape in ((1, 1, 3), (1, 5000, 3), (5000, 1, 3)):
        assert IMAGE.prepare(np.full(shape, 255, np.uint8)).shape == (16, 16, 3)


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_orientation(turn):
    upright = np.zeros((20, 40, 3), np.uint8)
    upright[:10, :10] = 255  # top left
    stored = Pillow.fromarray(upright)
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}.get(turn)  # Pillow.Transpose that undoes the turn
    if inverse is not None:
        stored = stored.transpose(Pillow.Transpose(inverse))
    exif = Pillow.Exif()
    exif[0x0112] = turn
    for kind in ("PNG", "WEBP"):
        content = encoded(stored, kind, exif=exif.tobytes(), lossless=True)
        assert np.array_equal(IMAGE.load_value(content), upright)
    raw = IMAGE.load_value(encoded(stored, "JPEG", exif=exif.tobytes(), quality=95))
    assert np.abs(raw.astype(int) - upright).mean() < 8


def test_damaged_exif_is_ignored():
    for exif in (b"", b"Exif\0\0", b"II*\0", b"MM\0*\xff\xff\xff\xff", b"II*\0\x08\0\0\0\xff\xff\x12\x01"):
        assert orientation(exif) in (0, 1)
        content = encoded(Pillow.fromarray(picture()), "JPEG", exif=b"Exif\0\0" + exif)
        assert IMAGE.load_value(content).shape == (30, 40, 3)


def test_transparency_is_put_on_white():
    clear = np.zeros((4, 4, 4), np.uint8)
    clear[0, 0] = (255, 0, 0, 255)
    clear[1, 1] = (0, 0, 0, 128)
    for source in (encoded(Pillow.fromarray(clear)), clear, Pillow.fromarray(clear)):
        raw = IMAGE.load_value(source)
        assert raw[0, 0].tolist() == [255, 0, 0]
        assert raw[1, 1].tolist() == [127, 127, 127]
        assert raw[3, 3].tolist() == [255, 255, 255]
    palette = Pillow.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    palette.putdata([0, 1])
    for kind in ("PNG", "GIF"):
        raw = IMAGE.load_value(encoded(palette, kind, transparency=1))
        assert raw.tolist() == [[[255, 0, 0], [255, 255, 255]]]
    grey = Pillow.fromarray(np.array([[0, 200]], np.uint8))
    assert IMAGE.load_value(encoded(grey, transparency=0)).tolist() == [[[255] * 3, [200] * 3]]


def test_sixteen_bits_are_scaled_not_clipped():
    deep = np.array([[0, 0x8000, 0xFFFF]], np.uint16)
    for source in (encoded(Pillow.fromarray(deep)), Pillow.fromarray(deep), deep):
        assert IMAGE.load_value(source)[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK", "YCbCr", "HSV", "PA", "RGBX"])
def test_other_modes(mode):
    source = Pillow.new(mode, (3, 2))
    raw = IMAGE.load_value(source)
    assert raw.shape == (2, 3, 3)
    if mode in ("CMYK", "L", "YCbCr"):
        assert IMAGE.load_value(encoded(source, "JPEG")).shape == (2, 3, 3)


def test_cmyk_colours():
    raw = IMAGE.load_value(encoded(Pillow.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert raw[4, 4, 0] > 240
    assert raw[4, 4, 1] < 15


def test_arrays_and_tensors():
    raw = picture(12, 9)
    for source in (
        raw,
        raw.astype(np.int64),
        raw / 255,
        torch.from_numpy(raw),
        torch.from_numpy(raw).permute(2, 0, 1) / 255,
        raw.transpose(2, 0, 1),
        raw[:, ::-1][:, ::-1],
        Pillow.fromarray(raw),
    ):
        assert np.array_equal(IMAGE.load_value(source), raw)
    grey = raw[..., 0]
    for source in (grey, grey[..., None], grey[None], Pillow.fromarray(grey)):
        assert np.array_equal(IMAGE.load_value(source), grey[..., None].repeat(3, 2))
    assert IMAGE.load_value(grey > 99).max() == 255


def test_first_frame_of_an_animation():
    frames = [Pillow.new("RGB", (5, 5), colour) for colour in ("red", "blue")]
    for kind in ("GIF", "WEBP", "PNG"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert IMAGE.load_value(content)[2, 2].tolist() == [255, 0, 0]


def test_large_jpegs_are_decoded_reduced():
    smooth = np.add.outer(np.arange(2048), np.arange(2048)) // 16
    content = encoded(Pillow.fromarray(smooth.astype(np.uint8)), "JPEG", quality=95)
    raw = IMAGE.load_value(content)
    assert raw.shape == (256, 256, 3)
    full = np.array(Pillow.open(io.BytesIO(content)).convert("RGB"))
    assert (IMAGE.prepare(raw) - IMAGE.prepare(full)).abs().max() < 0.05
    assert Image(size=300).load_value(content).shape == (1024, 1024, 3)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"this is text, not a picture", "not a readable picture.*b'this is text"),
        (b"\x89PNG\r\n\x1a\n", "not a readable picture|damaged"),
        (png_header(100_000, 100_000), "pixels"),
        (png_header(9_000, 9_000), "9000 x 9000 pixels, the limit is 40,000,000"),
        (png_header(10_500, 10_500), "10500 x 10500 pixels"),  # where Pillow only warns
        (png_header(0, 5), "no pixels|not a readable|damaged"),
        (np.zeros((0, 5, 3), np.uint8), "found the shape"),
        (np.zeros((5, 5, 2), np.uint8), "1, 3 or 4 colour channels"),
        (np.zeros(5, np.uint8), r"found the shape \[5"),
        (np.full((2, 2, 3), np.nan), "float64 pixels from 0 to 1, found nan"),
        (np.full((2, 2, 3), 200.0), "from 0 to 1, found 200"),
        (np.full((2, 2, 3), 300), "from 0 to 255, found 300"),
        (np.full((2, 2, 3), "a"), "as numbers"),
        (np.zeros((2, 3, 4, 3), np.uint8), "expected pixels as uint8"),
        (Pillow.new("F", (2, 2)), "mode F"),
        (Pillow.new("RGB", (7000, 7000)), "the limit is 40,000,000"),
        (Pillow.new("RGB", (0, 5)), "no pixels"),
        (3.5, "found float"),
        (None, "found NoneType"),
    ],
)
def test_refuses(source, reason):
    with pytest.raises(DataError, match=reason) as error:
        IMAGE.load_value(source)
    assert "0x7" not in str(error.value)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_truncated_files(kind):
    content = encoded(Pillow.fromarray(picture(200, 200)), kind)
    for share in (0.1, 0.5, 0.9):
        with pytest.raises(DataError) as error:
            IMAGE.load_value(content[: int(len(content) * share)])
        assert "0x7" not in str(error.value)


def test_other_formats_are_not_parsed():
    with pytest.raises(DataError, match="not a readable picture"):
        IMAGE.load_value(encoded(Pillow.fromarray(picture()), "TIFF"))


def test_augmentation_depends_on_the_generator_only():
    modality = Image(size=16, flip=True, shift=3)
    raw = picture(16, 16)

    def draw(seed):
        return modality.prepare(raw, torch.Generator().manual_seed(seed))

    assert all(torch.equal(draw(seed), draw(seed)) for seed in range(5))
    assert len({draw(seed).numpy().tobytes() for seed in range(20)}) > 10
    assert torch.equal(modality.prepare(raw), IMAGE.prepare(raw))
    state = torch.get_rng_state()
    draw(0)
    assert torch.equal(torch.get_rng_state(), state)


def test_shift_moves_and_repeats_the_edge():
    modality = Image(size=16, mean=0.0, std=1.0, shift=3)
    raw = np.zeros((16, 16, 3), np.uint8)
    raw[8, 8] = 255
    raw[:, 0] = 51
    seen = set()
    for seed in range(60):
        values = modality.prepare(raw, torch.Generator().manual_seed(seed))
        row, column = divmod(int(values[..., 0].argmax()), 16)
        seen.add((row - 8, column - 8))
        assert torch.allclose(values[:, 0, 0], torch.full((16,), 0.2 if column >= 8 else 0.0))
    assert {d for d, _ in seen} == {d for _, d in seen} == set(range(-3, 4))


def test_flip_happens_half_of_the_time():
    modality = Image(size=16, flip=True)
    raw = picture(16, 16)
    plain, mirrored = modality.prepare(raw), modality.prepare(raw[:, ::-1].copy())
    draws = [modality.prepare(raw, torch.Generator().manual_seed(seed)) for seed in range(100)]
    flipped = sum(torch.equal(draw, mirrored) for draw in draws)
    assert flipped + sum(torch.equal(draw, plain) for draw in draws) == 100
    assert 30 < flipped < 70


def test_size_and_show():
    raw = picture(600, 30)
    assert IMAGE.size(raw) == (600.0, "px")
    shown = IMAGE.show(raw)
    assert shown.startswith('<img src="data:image/png;base64,')
    assert "600 x 30" in shown


def test_blank_is_like_a_prepared_picture():
    prepared = IMAGE.prepare(picture())
    assert IMAGE.blank().shape == prepared.shape
    assert IMAGE.blank().dtype == prepared.dtype


def test_wrong_settings():
    for settings in (
        {"size": 0},
        {"shift": 64},
        {"shift": -1},
        {"mean": [0.0, 1.0]},
        {"std": 0.0},
        {"std": []},
    ):
        with pytest.raises(ConfigError, match="Image"):
            Image(**settings)


def test_real_photographs(shared_data):
    shapes = {"astronaut.png": (512, 512, 3), "chelsea.png": (300, 451, 3), "bricks.jpg": (256, 256, 3)}
    for name, shape in shapes.items():
        raw = IMAGE.load_value(shared_data / "media" / name)
        assert raw.shape == shape
        assert IMAGE.prepare(raw).isfinite().all()


@pytest.mark.parametrize("mean", [0.5, [0.4, 0.5, 0.6], None])
def test_what_was_prepared_can_be_looked_at(mean):
    image = Image(size=8, mean=mean, std=0.3)
    picture = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    prepared = image.prepare(picture)
    assert np.array_equal(image.undo(prepared), picture)
    if mean is not None:
        assert np.array_equal(image.undo(prepared + 100), np.full_like(picture, 255))
        assert torch.equal(prepared, image.prepare(picture))  # nothing is changed in place
    with pytest.raises(CapabilityError, match="prepared of image cannot be looked at"):
        Image(geometry=NativePatches(patch=4, most=9), mean=None).undo(torch.zeros(9, 52, dtype=torch.uint8))
