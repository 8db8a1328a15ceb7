"""Sound as it is: the samples themselves, for networks that learn their own features of them (wav2vec 2.0)."""

from __future__ import annotations

from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from ..core import ConfigError, DataError
from .files import GIB
from .recordings import Recordings, player
from .sound_file import Sound
from .spectrogram import LogMel

_EPSILON = 1e-7  # added to the variance, so that silence stays silence


@final
class Waveform(Recordings):
    """Recordings as samples, float32 [samples, 1] at ``sample_rate`` (Hz).

    With ``normalise``, each recording gets mean 0 and variance 1, over its own samples: ``(x - mean) / sqrt(variance +
    1e-7)`` (wav2vec 2.0, Baevski et al. 2020, arXiv:2006.11477). Only the first ``max_seconds`` are kept, if that is
    given. Recordings of fewer than ``least`` samples, of which a network makes no token, are refused.
    """

    def __init__(
        self,
        *,
        sample_rate: int = 16_000,
        normalise: bool = True,
        least: int = 400,
        max_seconds: float | None = None,
        limit_seconds: float = 3600.0,
        max_bytes: int = 2 * GIB,
    ) -> None:
        super().__init__(sample_rate=sample_rate, limit_seconds=limit_seconds, max_bytes=max_bytes)
        if least < 1 or (max_seconds is not None and max_seconds * sample_rate < least):
            raise ConfigError(
                f"Waveform: least must be at least 1 and no more than max_seconds hold, "
                f"found {least} samples and {max_seconds} s"
            )
        self.normalise, self.least, self.max_seconds = normalise, least, max_seconds

    @property
    def draws(self) -> bool:
        """Never: there is no augmentation."""
        return False

    def check(self, raw: Sound) -> None:
        """Raise DataError unless there are enough samples, all finite and within a sane range."""
        super().check(raw)
        found = len(raw.samples) * self.sample_rate / raw.rate
        if found < self.least:
            raise DataError(
                f"expected at least {self.least} samples at {self.sample_rate:,} Hz "
                f"({self.least / self.sample_rate:g} s), found {int(found)}"
            )

    def prepare(self, raw: Sound, generator: torch.Generator | None = None) -> Float[Tensor, "samples 1"]:
        """The samples, float32 [samples, 1]."""
        samples = self._samples(raw, self.max_seconds)
        if self.normalise:
            exact = samples.double()
            samples = ((exact - exact.mean()) / (exact.var(correction=0) + _EPSILON).sqrt()).float()
        return samples[:, None].clone()

    def blank(self) -> Float[Tensor, "least 1"]:
        """The shortest silence."""
        return torch.zeros(self.least, 1)

    def show(self, raw: Sound) -> str:
        """A player above a spectrogram, of the first 30 s."""
        return player(raw, LogMel(rate=16_000, window=512, hop=256, mels=64, low=0.0, high=8_000.0))
