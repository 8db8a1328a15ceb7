"""What of pictures, sound and films goes out, and what does not."""

from __future__ import annotations

import base64
import io
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sensorium.core import ConfigError, DataError
from sensorium.modalities.chat.messages import Message, Part
from sensorium.providers.parts import Parts


def sent(modality: str, value: Any, role: str = "user", **settings: Any) -> list[dict[str, Any]]:
    parts = Parts(**{"reads": (modality,), "frames": 3, "side": 64, **settings})
    (message,) = parts.messages([Message(role, (Part(modality, value),))])
    assert message["role"] == role
    return message["content"]


def opened(piece: dict[str, Any]) -> Image.Image:
    assert piece["type"] == "image_url"
    head, _, content = piece["image_url"]["url"].partition(";base64,")
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert head == f"data:{picture.get_format_mimetype()}"
    return picture


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_text_alone_is_a_string():
    assert sent("text", " Hello, <image>! ") == " Hello, <image>! "


def test_small_pictures_go_without_loss():
    pixels = noise(20, 30, 3)
    (piece,) = sent("image", pixels)
    picture = opened(piece)
    assert picture.format == "PNG"
    np.testing.assert_array_equal(np.asarray(picture), pixels)


def test_long_pictures_are_shrunk():
    (piece,) = sent("image", noise(100, 200, 3))
    assert opened(piece).size == (64, 32)


def test_large_pictures_go_as_jpeg():
    (piece,) = sent("image", noise(700, 700, 3), side=700)
    picture = opened(piece)
    assert (picture.format, picture.size) == ("JPEG", (700, 700))


def test_what_a_file_says_besides_stays(tmp_path: Path):
    exif = Image.Exif()
    exif[0x010E] = "at home"
    exif[0x0112] = 6  # to be turned
    Image.fromarray(noise(20, 30, 3)).save(tmp_path / "secret-name.jpg", exif=exif)
    (piece,) = sent("image", tmp_path / "secret-name.jpg")
    picture = opened(piece)
    assert picture.size == (20, 30)
    assert not picture.getexif()
    assert b"secret" not in base64.b64decode(piece["image_url"]["url"].partition(",")[2])


def test_a_large_jpeg_is_not_reduced_too_far(tmp_path: Path):
    Image.fromarray(noise(400, 600, 3)).save(tmp_path / "a.jpg")
    (piece,) = sent("image", tmp_path / "a.jpg", side=200)
    assert opened(piece).size == (200, 133)


def heard(piece: dict[str, Any]) -> tuple[int, np.ndarray]:
    assert (piece["type"], piece["input_audio"]["format"]) == ("input_audio", "wav")
    with wave.open(io.BytesIO(base64.b64decode(piece["input_audio"]["data"]))) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        return file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767


def test_sound_is_wav():
    samples = np.sin(np.arange(800) / 10).astype(np.float32) / 2
    (piece,) = sent("audio", (samples, 8000))
    rate, found = heard(piece)
    assert rate == 8000
    np.testing.assert_allclose(found, samples, atol=1e-4)
    (piece,) = sent("audio", (samples, 48_000))
    rate, found = heard(piece)
    assert (rate, len(found)) == (24_000, 400)


def test_a_film_is_a_few_pictures():
    pieces = sent("video", np.stack([np.full((8, 8, 3), 10 * i, np.uint8) for i in range(9)]))
    assert [int(np.asarray(opened(piece)).mean()) for piece in pieces] == [10, 40, 70]


@pytest.mark.parametrize("role", ["system", "assistant"])
def test_media_come_from_the_user(role: str):
    with pytest.raises(DataError, match=f"image in a message of the {role}"):
        sent("image", noise(4, 4, 3), role)
    assert sent("text", "x", role) == "x"


@pytest.mark.parametrize(
    ("modality", "value", "reason"),
    [
        ("image", b"not a picture", "not a readable picture"),
        ("image", "absent.png", "file not found: absent.png"),
        ("image", "https://example.org/a.png", "file not found"),
        ("audio", (np.zeros(0, np.float32), 8000), "no samples"),
        ("audio", (np.zeros(6_010_000, np.float32), 10_000), "lasts 601.0 s, the limit is 600 s"),
        ("text", " ", "the text is empty"),
        ("text", None, "expected a path or bytes"),
    ],
)
def test_values_that_cannot_be_sent(modality: str, value: Any, reason: str):
    with pytest.raises(DataError, match=reason) as caught:
        sent(modality, value)
    assert caught.value.field == "messages[0].content[0]"


def test_a_request_has_a_bound():
    parts = Parts(("image",), 1, 64, most_bytes=40_000)
    picture = noise(64, 64, 3)  # about 16 kB as text
    message = Message("user", (Part("image", picture),) * 3)
    with pytest.raises(
        DataError,
        match=r"field 'messages\[0\]\.content\[2\]': the media up to here take more than 40,000 bytes",
    ):
        parts.messages([message])


def test_roles_that_a_service_does_not_know():
    with pytest.raises(DataError, match=r"field 'messages\[0\]\.role': 'tool' cannot be sent"):
        sent("text", "x", "tool")


def test_settings_that_cannot_be():
    with pytest.raises(ConfigError, match=r"'imag' cannot be sent to a service \(did you mean 'image'\?\)"):
        Parts(("imag",), 1, 64)
    with pytest.raises(ConfigError, match="side must be from 16 to 8192 pixels, found 0"):
        Parts(("image",), 1, 0)
    with pytest.raises(ConfigError, match="frames must be at least 1"):
        Parts(("image",), 0, 64)
