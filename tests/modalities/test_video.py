from __future__ import annotations

import io
import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from sensorium.core import CapabilityError, ConfigError, DataError
from sensorium.modalities import Clip, Video
from sensorium.modalities.sampling import Evenly

VIDEO = Video(frames=4, size=16)


def greys(count, width=24, height=20):
    """Frame ``i`` is an even grey that names it."""
    levels = np.linspace(0, 250, count).astype(np.uint8) if count > 1 else np.array([128], np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def animation(frames, kind="GIF", duration=50):
    pictures = [Pillow.fromarray(frame) for frame in frames]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, kind, save_all=True, append_images=pictures[1:], duration=duration, loop=0, lossless=True
    )
    return buffer.getvalue()


def film(frames, kind="mp4", codec="mpeg4", rate=10):
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def levels(clip):
    return clip.frames.mean((1, 2, 3))


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
@pytest.mark.parametrize("count", [1, 3, 4, 12, 33, 100])
def test_animations_are_sampled_evenly(kind, count):
    frames = greys(count)
    clip = VIDEO.load_value(animation(frames, kind))
    expected = frames[Evenly(frames=4).places(count)].mean((1, 2, 3))
    # beyond 32 frames every other one is skipped while reading, beyond 64 three of four
    slack = {33: 2, 100: 4}.get(count, 0) * 250 / count + 1
    assert len(clip.frames) == min(count, 4)
    assert np.abs(levels(clip) - expected).max() <= slack
    if count > 1:
        assert len(clip.frames) / clip.rate == pytest.approx(count / 20, rel=0.1)


@pytest.mark.parametrize(
    ("kind", "codec"), [("mp4", "mpeg4"), ("mov", "mpeg4"), ("webm", "libvpx"), ("mpeg", "mpeg2video")]
)
def test_films_are_sampled_evenly(kind, codec, tmp_path):
    frames = greys(12, 64, 48)
    rate = 25 if kind == "mpeg" else 10
    content = film(frames, kind, codec, rate)
    file = tmp_path / "film.bin"
    file.write_bytes(content)
    for source in (content, file, str(file)):
        clip = VIDEO.load_value(source)
        assert clip.frames.shape == (4, 48, 64, 3)
        assert np.abs(levels(clip) - frames[[1, 4, 7, 10]].mean((1, 2, 3))).max() < 12
        assert clip.rate == pytest.approx(rate / 3, rel=0.2)


def test_a_turned_film_is_turned_upright():
    frames = np.zeros((4, 32, 64, 3), np.uint8)
    frames[:, :16, :32] = 255  # top left
    content = film(frames)
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    clockwise = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    track = content.index(b"tkhd")
    place = content.index(identity, track)
    turned = content[:place] + clockwise + content[place + len(identity) :]
    shown = VIDEO.load_value(turned).frames[0]
    assert shown.shape == (64, 32, 3)
    assert shown[16, 24].min() > 200  # now top right
    assert shown[48, 8].max() < 50


def test_large_frames_are_reduced_while_reading():
    clip = VIDEO.load_value(animation(greys(3, 1200, 600)))
    assert clip.frames.shape == (3, 256, 512, 3)
    clip = VIDEO.load_value(film(greys(3, 640, 320)))
    assert clip.frames.shape == (3, 256, 512, 3)
    assert VIDEO.load_value(animation(greys(2, 9000, 4))).frames.shape[2] == 256 * 16


def test_a_long_animation_takes_bounded_memory():
    frames = greys(2, 4, 4)
    clip = Video(frames=2).load_value(animation([frames[i % 2] for i in range(500)]))
    assert len(clip.frames) == 2


def test_arrays_and_clips():
    frames = greys(6)
    for source in (
        frames,
        (frames, 25),
        torch.from_numpy(frames),
        torch.from_numpy(frames).permute(0, 3, 1, 2) / 255,
        frames[..., :1],
        Clip(frames, 5.0),
    ):
        assert np.array_equal(VIDEO.load_value(source).frames, frames)
    assert VIDEO.load_value((frames, 25)).rate == 25


def test_prepares_normalised_squares():
    values = VIDEO.prepare(Clip(greys(12), 10.0))
    assert values.shape == (4, 16, 16, 3)
    assert values.dtype == torch.float32
    expected = torch.from_numpy(greys(12)[[1, 4, 7, 10], 0, 0, 0]).float() / 127.5 - 1
    assert torch.allclose(values[:, 8, 8, 0], expected, atol=1e-6)
    assert VIDEO.prepare(Clip(greys(2), 10.0)).shape == (2, 16, 16, 3)


def test_augmentation_is_the_same_for_all_frames_and_follows_the_generator():
    modality = Video(frames=4, size=16, flip=True, shift=3)
    still = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    clip = Clip(np.stack([still] * 4), 1.0)

    def draw(seed):
        return modality.prepare(clip, torch.Generator().manual_seed(seed))

    for seed in range(5):
        assert torch.equal(draw(seed), draw(seed))
        assert torch.equal(draw(seed)[0], draw(seed)[3])
    assert len({draw(seed).numpy().tobytes() for seed in range(20)}) > 10
    assert torch.equal(modality.prepare(clip), VIDEO.prepare(clip))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (b"this is text, not a film", "not an MP4, WebM, MPEG, GIF or WebP file.*b'this is text"),
        (b"#EXTM3U\n/etc/passwd\n", "not an MP4"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "not an MP4"),
        (b"GIF89a", "damaged|not a readable"),
        (b"\x1aE\xdf\xa3" + bytes(50), "damaged|no film"),
        (b"\0\0\1\xba" + bytes(50), "damaged|no film|no frames"),
        (b"\0\0\0\x08ftyp", "damaged|no film"),
        (np.zeros((2, 2, 3), np.uint8), r"found the shape \[2, 2, 3\]"),
        (np.zeros((0, 2, 2, 3), np.uint8), "found the shape"),
        ((np.zeros((1, 2, 2, 3), np.uint8), 0), "a rate above 0"),
        ((np.zeros((1, 2, 2, 3), np.uint8), float("nan")), "a rate above 0"),
        (3.5, "found float"),
        (None, "found NoneType"),
    ],
)
def test_refuses(source, reason):
    with pytest.raises(DataError, match=reason) as error:
        VIDEO.load_value(source)
    assert "0x7" not in str(error.value)


def test_limits():
    with pytest.raises(DataError, match=r"24 x 20 pixels, the limit is 400"):
        Video(max_pixels=400).read(animation(greys(2)))
    with pytest.raises(DataError, match=r"more than 50,000 pixels in all"):
        Video(max_pixels=500).read(animation(greys(120)))
    with pytest.raises(DataError, match="the limit is 2 s"):
        Video(max_seconds=2.0).read(animation(greys(50)))
    with pytest.raises(DataError, match="640 x 320 pixels"):
        Video(max_pixels=100_000).read(film(greys(2, 640, 320)))
    with pytest.raises(DataError, match="the limit is 2 s"):
        Video(max_seconds=2.0).read(film(greys(30, 64, 48)))
    with pytest.raises(DataError, match="the limit is 2 s"):
        Video(max_seconds=2.0).read(film(greys(75, 64, 48), "mpeg", "mpeg2video", 25))


def test_truncated_films():
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)
    content = film(noise)
    for share in (0.1, 0.5, 0.95):
        with pytest.raises(DataError, match=r"cut short|damaged"):
            VIDEO.load_value(content[: int(len(content) * share)])
    content = animation(noise)
    with pytest.raises(DataError, match="truncated"):
        VIDEO.load_value(content[: len(content) // 2])


def test_a_film_without_the_extra_names_it(monkeypatch):
    content = film(greys(2, 64, 48))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(CapabilityError, match=r"pip install sensorium\[video\]"):
        VIDEO.read(content)


def test_sound_without_a_film():
    av = pytest.importorskip("av")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(DataError, match="no film in it"):
        VIDEO.read(buffer.getvalue())


def test_an_unknown_code():
    content = film(greys(2, 64, 48))
    with pytest.raises(DataError, match="cannot decode"):
        VIDEO.read(content.replace(b"mp4v", b"zzzz").replace(b"esds", b"free"))


def test_size_and_show():
    clip = Clip(greys(3, 600, 300), 2.0)
    assert VIDEO.size(clip) == (3.0, "frames")
    shown = VIDEO.show(clip)
    assert shown.startswith('<img src="data:image/webp;base64,')
    assert "3 frames, 1.50 s" in shown


def test_short_films_can_be_filled():
    filled = Video(frames=4, size=16, fill=True)
    prepared = filled.prepare(Clip(greys(3), 1.0))
    assert prepared.shape == filled.blank().shape == (4, 16, 16, 3)
    assert torch.equal(prepared[[0, 1, 3]], VIDEO.prepare(Clip(greys(3), 1.0)))


def test_blank_is_like_a_prepared_clip():
    prepared = VIDEO.prepare(Clip(greys(1), 1.0))
    assert VIDEO.blank().shape == prepared.shape
    assert VIDEO.blank().dtype == prepared.dtype


def test_wrong_settings():
    for settings in ({"frames": 0}, {"size": 0}, {"shift": 32}, {"std": 0.0}):
        with pytest.raises(ConfigError, match="Video"):
            Video(**settings)


def test_real_films(shared_data):
    pytest.importorskip("av")
    shapes = {
        "realshort.mp4": (240, 320),
        "grid_swwp2s.mpg": (256, 320),
        "newtonscradle.gif": (150, 200),
    }
    for name, shape in shapes.items():
        clip = Video().load_value(shared_data / "media" / name)
        assert clip.frames.shape == (8, *shape, 3)
        assert clip.frames.std(0).max() > 5  # something moves


def test_what_was_prepared_can_be_looked_at():
    video = Video(frames=3, size=8)
    frames = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    shown = video.undo(video.prepare(video.read(frames)))
    assert np.array_equal(shown.frames, frames)
    assert video.show(shown).startswith("<img")
