from __future__ import annotations

import io

import numpy as np
import pytest

from sensorium.core import DataError
from sensorium.modalities import Video
from sensorium.modalities.film import _Reader
from sensorium.modalities.sampling import Evenly, Paced, Sampling

av = pytest.importorskip("av")


class These(Sampling):
    """The frames that a test wants."""

    def __init__(self, wanted):
        self.wanted, self.most = wanted, len(wanted)

    def places(self, count, rate):
        return self.wanted


def counted(place, height=48, width=64):
    """A frame that shows its number in eight black or white squares."""
    bits = [255 * (place >> bit & 1) for bit in range(8)]
    blocks = np.array(bits, np.uint8).reshape(2, 4).repeat(height // 2, 0).repeat(width // 4, 1)
    return np.repeat(blocks[..., None], 3, -1)


def number(frame):
    blocks = frame.reshape(2, frame.shape[0] // 2, 4, frame.shape[1] // 4, 3).mean((1, 3, 4)) > 127
    return sum(int(bit) << place for place, bit in enumerate(blocks.reshape(-1)))


def film(count, kind="mp4", codec="mpeg4", keys=12, between=2, rate=25, start=0):
    """``keys`` frames from one that can be decoded alone to the next, ``between`` of two others coded after both."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.bit_rate = 2_000_000
        stream.codec_context.gop_size = keys
        stream.codec_context.max_b_frames = between
        for place in range(count):
            frame = av.VideoFrame.from_ndarray(counted(place % 256), format="rgb24")
            frame.pts = start + place
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def numbers(content, rule, **limits):
    clip = Video(sampling=rule, size=8, **limits).load_value(content)
    return [number(frame) for frame in clip.frames], clip.rate


@pytest.mark.parametrize(
    ("kind", "codec", "between"),
    [
        ("mp4", "mpeg4", 0),
        ("mp4", "mpeg4", 2),
        ("matroska", "mpeg4", 2),
        ("webm", "libvpx", 0),
        ("mov", "mpeg4", 2),
    ],
)
def test_exactly_the_wanted_frames(kind, codec, between):
    content = film(200, kind, codec, between=between)
    for rule in (
        Evenly(frames=7),
        Evenly(frames=16, at="starts"),
        Evenly(frames=3, at="ends"),
        Paced(rate=3.0),
    ):
        found, rate = numbers(content, rule)
        assert found == rule.places(200, 25.0)
        assert rate == pytest.approx(25 * len(found) / 200)


@pytest.mark.parametrize("between", [0, 2])
def test_every_frame_can_be_jumped_to(between):
    content = film(120, keys=10, between=between)
    for place in range(0, 120, 7):
        assert numbers(content, These([place, 119]))[0] == [place, 119]
        assert numbers(content, These([0, place, place]))[0] == [0, place, place]


def test_films_without_an_index_are_read_in_one_pass():
    content = film(60, "mpeg", "mpeg2video")
    found, _ = numbers(content, Evenly(frames=6))
    assert found == sorted(set(found))
    assert len(found) == 6
    assert found[0] < 15
    assert found[-1] > 45


def test_limits_are_checked_before_anything_is_decoded(monkeypatch):
    content = film(300)

    def decode(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr("sensorium.modalities.film._Reader", decode)
    with pytest.raises(DataError, match="101 frames or more, the limit is 100"):
        numbers(content, Evenly(), max_frames=100)
    with pytest.raises(DataError, match=r"lasts 12\.0 s or more, the limit is 10 s"):
        numbers(content, Evenly(), max_seconds=10.0)
    with pytest.raises(DataError, match="64 x 48 pixels, the limit is 3,000"):
        numbers(content, Evenly(), max_pixels=3000)


def test_more_frames_than_memory_are_refused(monkeypatch):
    monkeypatch.setattr("sensorium.modalities.clips._MOST_KEPT", 100_000)
    with pytest.raises(DataError, match="64 frames of 64 x 48 pixels would be kept"):
        numbers(film(80), Evenly(frames=64))
    assert len(numbers(film(80), Evenly(frames=32))[0]) == 32


def test_long_arrays_and_animations_are_refused():
    with pytest.raises(DataError, match="9 frames or more, the limit is 8"):
        Video(max_frames=8).load_value(np.zeros((9, 4, 4, 3), np.uint8))


def test_a_long_film_is_not_decoded_whole(monkeypatch):
    """Eight frames of 1,000 cost at most the 25 frames before each."""
    decoded = []
    following = _Reader._next
    monkeypatch.setattr(_Reader, "_next", lambda reader: decoded.append(1) or following(reader))
    rule = Evenly(frames=8)
    assert numbers(film(1000, keys=25), rule)[0] == [place % 256 for place in rule.places(1000)]
    assert 8 <= len(decoded) <= 8 * 26


def test_a_film_that_ends_early():
    whole = film(100, "matroska")
    with pytest.raises(DataError, match="truncated or damaged"):
        numbers(whole[: len(whole) // 2] + bytes(len(whole) // 2), These([0, 99]))
