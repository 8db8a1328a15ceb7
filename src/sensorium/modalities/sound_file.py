"""Decoding a sound file with libsndfile: checked header, bounded memory, no unnoticed truncation."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from ..core import DataError
from .files import beginning, peek

MAX_RATE = 1_000_000  # Hz
MAX_CHANNELS = 64
_BLOCK = 1 << 18  # frames decoded at a time
_UNKNOWN = (0, 0x7FFFFFFF, 0xFFFFFFFF)  # declared lengths of recordings that were streamed
_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"FORM", b"fLaC", b"OggS", b"ID3")


@dataclass(frozen=True)
class Sound:
    """A recording mixed down to one channel: ``samples`` float32 [n], full scale 1, at ``rate`` Hz."""

    samples: np.ndarray
    rate: int


class _Content(io.BytesIO):
    """A file in memory that never raises on a seek: libsndfile could not pass the error on."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        start = (0, self.tell(), self.getbuffer().nbytes)[whence]
        return super().seek(max(0, start + offset))


def decode(handle: BinaryIO, max_seconds: float) -> Sound:
    """The recording in a WAV, FLAC, OGG, MP3 or AIFF file, mixed down (the mean of its channels).

    Raises DataError if it is damaged, cut short, without samples, or longer than ``max_seconds``.
    """
    import soundfile

    head = peek(handle)
    # Content decides, not the file name: libsndfile also parses many formats that nobody sends on purpose.
    if not head.startswith(_MAGIC) and not (head[0] == 0xFF and head[1:2] >= b"\xe0"):
        raise DataError(f"not a WAV, FLAC, OGG, MP3 or AIFF file: {beginning(head)}")
    _check_chunks(handle, head)
    try:
        with soundfile.SoundFile(_Content(handle.read())) as file:
            check_header(file.samplerate, file.channels)
            return _samples(file, max_seconds)
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OSError, MemoryError):
        raise DataError(f"the sound data is damaged: {beginning(head)}") from None


def check_header(rate: int, channels: int) -> None:
    """Raise DataError for a sampling rate or number of channels that no recording has."""
    if not 1 <= rate <= MAX_RATE:
        raise DataError(f"expected a sampling rate from 1 to {MAX_RATE:,} Hz, found {rate:,}")
    if not 1 <= channels <= MAX_CHANNELS:
        raise DataError(f"expected 1 to {MAX_CHANNELS} channels, found {channels}")


def check_length(samples: int, rate: int, max_seconds: float) -> None:
    """Raise DataError for no samples or too many."""
    if samples == 0:
        raise DataError("the recording has no samples")
    if samples > max_seconds * rate:
        raise DataError(f"the recording lasts {samples / rate:,.1f} s, the limit is {max_seconds:g} s")


def _samples(file: Any, max_seconds: float) -> Sound:
    rate, expected = file.samplerate, file.frames
    check_length(expected, rate, max_seconds)
    pieces, found = [], 0
    while True:
        block = file.read(_BLOCK, dtype="float32", always_2d=True)
        if len(block) == 0:
            break
        found += len(block)
        check_length(found, rate, max_seconds)
        pieces.append(block[:, 0] if block.shape[1] == 1 else block.mean(1, dtype=np.float32))
    if found < expected:
        raise DataError(f"the recording is cut short: {found:,} of {expected:,} samples could be decoded")
    return Sound(np.concatenate(pieces), rate)


def _check_chunks(handle: BinaryIO, head: bytes) -> None:
    """Raise DataError if a WAV or AIFF file ends before its samples do: libsndfile would not tell."""
    kinds: dict[bytes, tuple[Any, bytes]] = {
        b"RIFF": ("little", b"data"),
        b"RIFX": ("big", b"data"),
        b"FORM": ("big", b"SSND"),
    }
    if head[:4] not in kinds:
        return
    order, wanted = kinds[head[:4]]
    end = handle.seek(0, 2)
    place = 12
    while place + 8 <= end:
        handle.seek(place)
        chunk = handle.read(8)
        length = int.from_bytes(chunk[4:], order)
        place += 8 + length + length % 2
        if chunk[:4] == wanted:
            if length not in _UNKNOWN and place - length % 2 > end:
                missing = place - length % 2 - end
                raise DataError(
                    f"the recording is cut short: {missing:,} of {length:,} bytes of sound are missing"
                )
            break
    handle.seek(0)
