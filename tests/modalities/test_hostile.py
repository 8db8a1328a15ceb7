"""Whatever bytes come, a modality either reads them or raises DataError."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from sensorium.core import DataError
from sensorium.modalities import Audio, Image, Series, Text, Video

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 24, 32, 3), dtype=np.uint8)
SOUND = np.random.default_rng(0).uniform(-1, 1, 800).astype(np.float32)


def pictures():
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        buffer = io.BytesIO()
        Pillow.fromarray(PIXELS[0]).save(buffer, kind)
        yield buffer.getvalue()


def sounds():
    for kind in ("WAV", "FLAC", "OGG", "MP3", "AIFF"):
        buffer = io.BytesIO()
        soundfile.write(buffer, SOUND, 16_000, format=kind)
        yield buffer.getvalue()


def films():
    stills = [Pillow.fromarray(frame) for frame in PIXELS]
    for kind in ("GIF", "WEBP"):
        buffer = io.BytesIO()
        stills[0].save(buffer, kind, save_all=True, append_images=stills[1:])
        yield buffer.getvalue()
    av = pytest.importorskip("av")
    for kind, codec in (("mp4", "mpeg4"), ("webm", "libvpx"), ("mpeg", "mpeg2video")):
        buffer = io.BytesIO()
        with av.open(buffer, "w", format=kind) as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 32, 24, "yuv420p"
            for frame in PIXELS:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        yield buffer.getvalue()


def tables():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((5, 2), np.float32))
    yield buffer.getvalue()
    yield b"x,y\n1,2\n3,4\n"
    yield b"1;2\n3;4\n"


@st.composite
def damaged(draw, seeds):
    """A good file with some bytes overwritten, cut out or put in."""
    content = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 4))):
        # half of the damage is done to the header
        furthest = len(content) if draw(st.booleans()) else min(64, len(content))
        place = draw(st.integers(0, furthest))
        length = draw(st.sampled_from([0, 1, 2, 4, 30]))
        content[place : place + length] = draw(st.binary(max_size=8))
    return bytes(content)


def survives(modality, content):
    reason = None
    try:
        raw = modality.load_value(content)
    except DataError as error:
        reason = error.reason
    if reason is not None:
        assert reason
        assert "object at 0x" not in reason
    elif not isinstance(raw, str):
        assert modality.prepare(raw).isfinite().all()
        assert modality.size(raw)[0] > 0


FUZZ = settings(
    max_examples=150, deadline=5_000, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
CASES = [
    pytest.param(Image(size=16), list(pictures()), id="image"),
    pytest.param(Audio(limit_seconds=60.0), list(sounds()), id="audio"),
    pytest.param(Video(frames=2, size=16), list(films()), id="video"),
    pytest.param(Series(channels=2), list(tables()), id="series"),
]


@pytest.mark.parametrize(("modality", "seeds"), CASES)
def test_damaged_files(modality, seeds):
    for seed in seeds:
        modality.prepare(modality.load_value(seed))

    @FUZZ
    @given(damaged(seeds))
    def check(content):
        survives(modality, content)

    check()


@pytest.mark.parametrize(("modality", "seeds"), CASES)
def test_every_prefix(modality, seeds):
    for seed in seeds:
        for length in range(0, len(seed), max(1, len(seed) // 40)):
            survives(modality, seed[:length])


MAGIC = [b"", b"RIFF", b"GIF89a", b"\x89PNG\r\n\x1a\n", b"BM", b"\xff\xd8\xff"]
MAGIC += [b"ID3", b"OggS", b"fLaC", b"FORM", b"\xff\xfb"]
MAGIC += [b"\0\0\0\x20ftyp", b"\x1aE\xdf\xa3", b"\0\0\1\xba", b"\x93NUMPY\1\0"]


@FUZZ
@given(st.binary(max_size=200), st.sampled_from(MAGIC))
def test_any_bytes(content, magic):
    for modality in (Image(size=16), Audio(), Video(frames=2), Series(), Text()):
        survives(modality, magic + content)
