"""What every modality of sound shares: reading recordings, checking them, and listening to them."""

from __future__ import annotations

import io
import wave
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..core import ConfigError, DataError, Modality
from . import html
from .files import is_source, open_source
from .resample import resample
from .sound_file import Sound, check_header, check_length, decode
from .spectrogram import LogMel

_LOUDEST = 100.0  # full scale is 1: beyond this, integers were passed as floats
_SHOWN_RATE, _SHOWN_SECONDS = 16_000, 30


class Recordings(Modality):
    """Sound from WAV, FLAC, OGG, MP3 and AIFF files and arrays; subclasses say how it is prepared.

    ``read`` gives a ``Sound``: mono float32 at the file's own rate, channels averaged. Those of more than
    ``limit_seconds`` are refused before and while decoding. Resampling is our own (windowed sinc), and differs from
    that of other projects in the last digits: parity with them is for recordings at the ``sample_rate`` (Hz).
    """

    name: ClassVar[str] = "audio"
    extensions: ClassVar[tuple[str, ...]] = (
        ".wav",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
    )

    def __init__(self, *, sample_rate: int, limit_seconds: float, max_bytes: int) -> None:
        if sample_rate < 1:
            raise ConfigError(f"{type(self).__name__}.sample_rate must be at least 1 Hz, found {sample_rate}")
        self.sample_rate, self.limit_seconds, self.max_bytes = sample_rate, limit_seconds, max_bytes

    def read(self, source: Any) -> Sound:
        """A ``Sound`` from a path, a file's bytes, a ``Sound``, or ``(array, rate in Hz)``.

        The array is [samples], or two-dimensional with channels along its shorter axis; integers are scaled
        by the range of their type. Raises DataError for anything missing, damaged, cut short or too long.
        """
        if is_source(source):
            with open_source(source, self.max_bytes) as handle:
                return decode(handle, self.limit_seconds)
        if isinstance(source, Sound):
            return source
        if isinstance(source, tuple) and len(source) == 2:
            sound = _from_array(*source)
            check_length(len(sound.samples), sound.rate, self.limit_seconds)
            return sound
        raise DataError(f"expected a path, bytes or (samples, rate), found {type(source).__name__}")

    def check(self, raw: Sound) -> None:
        """Raise DataError unless there are samples, all finite and within a sane range."""
        check_header(raw.rate, 1)
        check_length(len(raw.samples), raw.rate, self.limit_seconds)
        peak = float(np.abs(raw.samples).max())
        if not np.isfinite(peak):
            raise DataError("the recording has samples that are not finite numbers")
        if peak > _LOUDEST:
            raise DataError(f"expected samples of about -1 to 1, found {peak:g}")

    def size(self, raw: Sound) -> tuple[float, str]:
        """The duration in seconds."""
        return len(raw.samples) / raw.rate, "s"

    def _samples(self, raw: Sound, max_seconds: float | None) -> Float[Tensor, "n"]:
        """The recording at ``sample_rate``, or its first ``max_seconds``."""
        end = None if max_seconds is None else max(1, round(max_seconds * raw.rate))
        return resample(torch.tensor(raw.samples[:end]), raw.rate, self.sample_rate)


def player(raw: Sound, log_mel: LogMel) -> str:
    """HTML: a player above a spectrogram, of the first 30 s."""
    samples = torch.tensor(raw.samples[: _SHOWN_SECONDS * raw.rate])
    rate = min(raw.rate, _SHOWN_RATE)
    sound = html.data_uri("audio/wav", wav(resample(samples, raw.rate, rate).numpy(), rate))
    picture = html.coloured(log_mel(resample(samples, raw.rate, log_mel.rate)).T.flip(0).numpy())
    seconds = len(raw.samples) / raw.rate
    return (
        f'<figure style="margin:0"><img src="{html.png(picture)}" alt="spectrogram, {seconds:.2f} s" '
        f'style="width:256px;height:96px;display:block">'
        f'<audio controls preload="none" style="width:256px" src="{sound}"></audio></figure>'
    )


def _from_array(values: Any, rate: Any) -> Sound:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    try:
        samples = np.asarray(values)
        rate = int(rate)
    except (ValueError, TypeError, OverflowError):
        raise DataError("expected (samples as numbers, sampling rate in Hz)") from None
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "iuf":
        raise DataError(
            f"expected samples as numbers [samples] or [channels, samples], "
            f"found {samples.dtype} of the shape {list(samples.shape)}"
        )
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):  # becomes infinite, which `check` refuses
            samples = samples.astype(np.float32)
    else:
        middle = np.iinfo(samples.dtype).max // 2 + 1 if samples.dtype.kind == "u" else 0
        half = middle or float(np.iinfo(samples.dtype).max) + 1
        samples = ((samples.astype(np.float64) - middle) / half).astype(np.float32)
    if samples.ndim == 2:
        axis = int(samples.shape[1] <= samples.shape[0]) if 0 not in samples.shape else 0
        check_header(rate, samples.shape[axis])
        samples = samples.mean(axis, dtype=np.float32)
    check_header(rate, 1)
    return Sound(samples, rate)


def wav(samples: np.ndarray, rate: int) -> bytes:
    """A WAV file of 16 bits; what is beyond full scale (1) is clipped."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()
