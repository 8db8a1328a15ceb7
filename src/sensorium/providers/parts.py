"""Values of a conversation as the JSON that a service takes: everything is decoded, checked and encoded anew, so that
nothing goes out but what is seen and heard (no EXIF, no names of files).
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from ..core import ConfigError, DataError, Modality, nearest
from ..modalities import Audio, Clip, Image, Sound, Text, Video
from ..modalities.chat.messages import TEXT, Message, Part, place
from ..modalities.html import data_uri
from ..modalities.recordings import wav
from ..modalities.resample import resample
from ..modalities.sampling import Evenly

_PNG_BYTES = 1 << 19  # a picture that takes more without loss is sent as JPEG
_JPEG_QUALITY = 92
_FRAME_SIDE = 768  # pixels of a frame's shorter side, at least, where it has them
_RATE = 24_000  # Hz, at most
_SECONDS = 600.0  # of a recording or film, at most

_ROLES = ("system", "user", "assistant")
Json = dict[str, Any]


class Parts:
    """Encodes parts of the modalities ``reads``; those of all others are refused.

    Pictures are sent as PNG, or as JPEG where that is large, at most ``side`` pixels long; a film as ``frames``
    pictures; sound as WAV of one channel. The media of a conversation may have ``most_bytes`` in all.
    """

    def __init__(self, reads: Sequence[str], frames: int, side: int, most_bytes: int = 1 << 25) -> None:
        if not 16 <= side <= 8192:
            raise ConfigError(f"side must be from 16 to 8192 pixels, found {side}")
        chosen = Evenly(frames=frames)
        every: dict[str, tuple[Modality, Callable[[Any], list[Json]]]] = {
            TEXT: (Text(), _text),
            "image": (Image(size=(side + 1) // 2), lambda raw: [_picture(raw, side)]),
            "audio": (Audio(limit_seconds=_SECONDS), _sound),
            "video": (
                Video(sampling=chosen, size=_FRAME_SIDE // 2, max_seconds=_SECONDS),
                lambda clip: _film(clip, chosen, side),
            ),
        }
        for name in reads:
            if name not in every:
                raise ConfigError(f"reads: {name!r} cannot be sent to a service{nearest(name, every)}")
        kept = {name: every[name] for name in dict.fromkeys((TEXT, *reads))}
        self.modalities: dict[str, Modality] = {name: modality for name, (modality, _) in kept.items()}
        self._encode = {name: encode for name, (_, encode) in kept.items()}
        self._most_bytes = most_bytes

    def messages(self, messages: Sequence[Message]) -> list[Json]:
        """The messages as JSON. Raises DataError naming the message and part that cannot be sent, or are too many."""
        left = self._most_bytes
        found = []
        for i, message in enumerate(messages):
            if message.role not in _ROLES:
                raise DataError(f"{message.role!r} cannot be sent to a service", field=f"{place(i)}.role")
            content: list[Json] = []
            for j, part in enumerate(message.parts):
                try:
                    pieces = self._pieces(part, message.role)
                    left -= sum(map(_size, pieces))
                    if left < 0:
                        raise DataError(f"the media up to here take more than {self._most_bytes:,} bytes")
                except DataError as error:
                    raise error.at(field=place(i, j)) from None
                content += pieces
            plain = all(piece["type"] == TEXT for piece in content) and len(content) == 1
            found.append({"role": message.role, "content": content[0][TEXT] if plain else content})
        return found

    def _pieces(self, part: Part, role: str) -> list[Json]:
        if part.kind != TEXT and role != "user":
            raise DataError(f"{part.kind} in a message of the {role}: services take it from the user")
        return self._encode[part.kind](self.modalities[part.kind].load_value(part.value))


def _text(raw: str) -> list[Json]:
    return [{"type": TEXT, TEXT: raw}]


def _picture(raw: np.ndarray, side: int) -> Json:
    from PIL import Image as Pillow

    picture = Pillow.fromarray(raw)
    picture.thumbnail((side, side), Pillow.Resampling.BICUBIC)
    buffer, kind = io.BytesIO(), "image/png"
    picture.save(buffer, "PNG")
    if buffer.tell() > _PNG_BYTES:
        buffer, kind = io.BytesIO(), "image/jpeg"
        picture.save(buffer, "JPEG", quality=_JPEG_QUALITY)
    return {"type": "image_url", "image_url": {"url": data_uri(kind, buffer.getvalue())}}


def _film(clip: Clip, chosen: Evenly, side: int) -> list[Json]:
    return [_picture(clip.frames[frame], side) for frame in chosen.places(len(clip.frames))]


def _sound(raw: Sound) -> list[Json]:
    rate = min(raw.rate, _RATE)
    samples = resample(torch.from_numpy(raw.samples), raw.rate, rate).numpy()
    content = base64.b64encode(wav(samples, rate)).decode("ascii")
    return [{"type": "input_audio", "input_audio": {"data": content, "format": "wav"}}]


def _size(piece: Json) -> int:
    """The characters of the one text in it."""
    (inner,) = (value for name, value in piece.items() if name != "type")
    return len(inner) if isinstance(inner, str) else max(map(len, inner.values()))
