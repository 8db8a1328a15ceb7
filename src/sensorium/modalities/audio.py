"""Sound: WAV, FLAC, OGG, MP3 and AIFF files and arrays, as log-mel spectrograms."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from ..core import ConfigError
from . import draws
from .files import GIB
from .recordings import Recordings, player
from .scaling import Scaling
from .sound_file import Sound
from .spectrogram import LogMel

# About those of speech; in place until `fit` learns those of the data.
_SPEECH = Scaling((-8.0,), (4.0,))


@final
class Audio(Recordings):
    """Recordings as log-mel spectrograms.

    ``prepare`` keeps the first ``max_seconds``, resamples to ``sample_rate`` (Hz) and returns
    ``(log-mel - mean) / std`` as float32 [frames, mels]: one frame per ``hop`` (s) of Hann windows of
    ``window`` (s), mels from ``min_frequency`` to ``max_frequency`` (Hz; default: half the sample rate). The two
    constants are given, or learnt by ``fit``, or else those of speech; they are never per recording, because
    loudness is information.

    In training the sound is moved by up to ``shift_seconds`` (silence comes in) and up to ``mask_frequency``
    neighbouring mels and ``mask_time`` neighbouring frames are blanked (SpecAugment, Park et al. 2019,
    arXiv:1904.08779). Files of more than ``limit_seconds`` are refused before and while decoding.
    """

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
        super().__init__(sample_rate=sample_rate, limit_seconds=limit_seconds, max_bytes=max_bytes)
        self.mels, self.max_seconds = mels, max_seconds
        self.shift_seconds, self.mask_frequency, self.mask_time = shift_seconds, mask_frequency, mask_time
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

    def prepare(self, raw: Sound, generator: torch.Generator | None = None) -> Float[Tensor, "frames mels"]:
        """The normalised log-mel spectrogram, float32 [frames, mels]."""
        samples = self._samples(raw, self.max_seconds)
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

    def show(self, raw: Sound) -> str:
        """A player above a spectrogram, of the first 30 s."""
        return player(raw, self._log_mel)

    def fit(self, raws: Iterable[Sound]) -> None:
        """Learn mean and deviation of all log-mels, unless they were given. Raises DataError for no data."""
        if self._given is None:
            values = (
                self._log_mel(self._samples(raw, self.max_seconds)).reshape(-1, 1).numpy() for raw in raws
            )
            self._scaling = Scaling.learn(values)

    def save(self, directory: Path) -> None:
        """Write the normalisation to ``audio.json``."""
        self._scaling.save(directory / "audio.json")

    def load(self, directory: Path) -> None:
        """Read the normalisation from ``audio.json``. Raises CheckpointError if it is missing or damaged."""
        self._scaling = Scaling.load(directory / "audio.json", 1)


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
