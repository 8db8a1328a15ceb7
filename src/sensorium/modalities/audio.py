"""Sound: WAV, FLAC, OGG, MP3 and AIFF files and arrays, as log-mel spectrograms."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..core import ConfigError, DataError, Modality
from . import draws, html
from .files import GIB, is_source, open_source
from .resample import resample
from .scaling import Scaling
from .sound_file import Sound, check_header, check_length, decode
from .spectrogram import LogMel

# About those of speech; in place until `fit` learns those of the data.
_SPEECH = Scaling((-8.0,), (4.0,))
_LOUDEST = 100.0  # full scale is 1: beyond this, integers were passed as floats
_SHOWN_RATE, _SHOWN_SECONDS = 16_000, 30


@final
class Audio(Modality):
    """Recordings as log-mel spectrograms.

    ``read`` gives a ``Sound``: mono float32 at the file's own rate, channels averaged. ``prepare`` keeps the
    first ``max_seconds``, resamples to ``sample_rate`` (Hz) and returns ``(log-mel - mean) / std`` as float32
    [frames, mels]: one frame per ``hop`` (s) of Hann windows of ``window`` (s), mels from ``min_frequency``
    to ``max_frequency`` (Hz; default: half the sample rate). The two constants are given, or learnt by
    ``fit``, or else those of speech; they are never per recording, because loudness is information.

    In training the sound is moved by up to ``shift_seconds`` (silence comes in) and up to ``mask_frequency``
    neighbouring mels and ``mask_time`` neighbouring frames are blanked (SpecAugment, Park et al. 2019,
    arXiv:1904.08779). Files of more than ``limit_seconds`` are refused before and while decoding.
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

    def __init__(
        self,
        *,
        sample_rate: int = 16_000,
        mels: int = 64,
        window: float = 0.032,
        hop: float = 0.016,
        min_frequency: float = 0.0,
        max_frequency: float | None = None,
        max_seconds: float = 30.0,
        mean: float | None = None,
        std: float | None = None,
        shift_seconds: float = 0.0,
        mask_frequency: int = 0,
        mask_time: int = 0,
        limit_seconds: float = 3600.0,
        max_bytes: int = 2 * GIB,
    ) -> None:
        high = sample_rate / 2 if max_frequency is None else max_frequency
        if not 0 <= min_frequency < high <= sample_rate / 2:
            raise ConfigError(
                f"Audio: expected 0 <= min_frequency < max_frequency <= {sample_rate / 2:g} Hz, "
                f"found {min_frequency:g} and {high:g}"
            )
        if round(hop * sample_rate) < 1 or round(window * sample_rate) < 2 or max_seconds <= 0 or mels < 1:
            raise ConfigError("Audio: mels, window, hop and max_seconds must be above 0")
        if not 0 <= mask_frequency < mels or mask_time < 0 or shift_seconds < 0:
            raise ConfigError(
                "Audio: shift_seconds and mask_time cannot be negative; mask_frequency is 0 to mels - 1"
            )
        if (mean is None) != (std is None) or (std is not None and std <= 0):
            raise ConfigError(
                f"Audio: give both mean and std, with std above 0, or neither; found {mean} and {std}"
            )
        self.sample_rate, self.mels, self.max_seconds = sample_rate, mels, max_seconds
        self.shift_seconds, self.mask_frequency, self.mask_time = shift_seconds, mask_frequency, mask_time
        self.limit_seconds, self.max_bytes = limit_seconds, max_bytes
        self._given = None if mean is None or std is None else Scaling((mean,), (std,))
        self._scaling = self._given or _SPEECH
        self._log_mel = LogMel(
            rate=sample_rate,
            window=round(window * sample_rate),
            hop=round(hop * sample_rate),
            mels=mels,
            low=min_frequency,
            high=high,
        )

    @property
    def draws(self) -> bool:
        """Whether training augments."""
        return self.shift_seconds > 0 or self.mask_frequency > 0 or self.mask_time > 0

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

    def prepare(self, raw: Sound, generator: torch.Generator | None = None) -> Float[Tensor, "frames mels"]:
        """The normalised log-mel spectrogram, float32 [frames, mels]."""
        samples = self._samples(raw)
        if generator is not None and self.shift_seconds:
            samples = _moved(samples, round(self.shift_seconds * self.sample_rate), generator)
        values = self._log_mel(samples).sub_(self._scaling.mean[0]).div_(self._scaling.std[0])
        if generator is not None:
            _blank(values.T, self.mask_frequency, generator)
            _blank(values, min(self.mask_time, len(values) - 1), generator)
        return values

    def blank(self) -> Float[Tensor, "1 mels"]:
        """One frame."""
        return torch.zeros(1, self.mels)

    def size(self, raw: Sound) -> tuple[float, str]:
        """The duration in seconds."""
        return len(raw.samples) / raw.rate, "s"

    def show(self, raw: Sound) -> str:
        """A player above a spectrogram, of the first 30 s."""
        samples = torch.tensor(raw.samples[: _SHOWN_SECONDS * raw.rate])
        rate = min(raw.rate, _SHOWN_RATE)
        player = html.data_uri("audio/wav", _wav(resample(samples, raw.rate, rate).numpy(), rate))
        picture = html.coloured(self._log_mel(self._samples(raw)).T.flip(0).numpy())
        seconds = len(raw.samples) / raw.rate
        return (
            f'<figure style="margin:0"><img src="{html.png(picture)}" alt="spectrogram, {seconds:.2f} s" '
            f'style="width:256px;height:96px;display:block">'
            f'<audio controls preload="none" style="width:256px" src="{player}"></audio></figure>'
        )

    def fit(self, raws: Iterable[Sound]) -> None:
        """Learn mean and deviation of all log-mels, unless they were given. Raises DataError for no data."""
        if self._given is None:
            values = (self._log_mel(self._samples(raw)).reshape(-1, 1).numpy() for raw in raws)
            self._scaling = Scaling.learn(values)

    def save(self, directory: Path) -> None:
        """Write the normalisation to ``audio.json``."""
        self._scaling.save(directory / "audio.json")

    def load(self, directory: Path) -> None:
        """Read the normalisation from ``audio.json``. Raises CheckpointError if it is missing or damaged."""
        self._scaling = Scaling.load(directory / "audio.json", 1)

    def _samples(self, raw: Sound) -> Float[Tensor, "n"]:
        """The first ``max_seconds`` at ``sample_rate``."""
        kept = torch.tensor(raw.samples[: max(1, round(self.max_seconds * raw.rate))])
        return resample(kept, raw.rate, self.sample_rate)


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


def _moved(samples: Tensor, furthest: int, generator: torch.Generator) -> Tensor:
    """``samples`` later or earlier by up to ``furthest``, as long as before."""
    furthest = min(furthest, len(samples) - 1)
    by = draws.integer(generator, -furthest, furthest)
    moved = torch.zeros_like(samples)
    if by >= 0:
        moved[by:] = samples[: len(samples) - by]
    else:
        moved[:by] = samples[-by:]
    return moved


def _blank(rows: Tensor, most: int, generator: torch.Generator) -> None:
    """Set up to ``most`` neighbouring rows to 0, the mean, in place."""
    if most > 0:
        width = draws.integer(generator, 0, most)
        start = draws.integer(generator, 0, len(rows) - width)
        rows[start : start + width] = 0


def _wav(samples: np.ndarray, rate: int) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()
