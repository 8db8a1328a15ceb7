"""Sound as several short spectrograms spread over the recording, as video language models hear it."""

from __future__ import annotations

import math
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..core import ConfigError
from .files import GIB
from .recordings import Recordings, player
from .sound_file import Sound
from .spectrogram import LogMel


@final
class MelSegments(Recordings):
    """Up to ``segments`` pieces of ``seconds`` each as ``(log-mel - mean) / std``, float32 [pieces, frames, mels, 1].

    They lie evenly from the beginning to the end of the recording (Video-LLaMA, Zhang et al. 2023, arXiv:2306.02858). A
    shorter recording has as few as hold all of it, the last of which may overlap; one of less than a piece is followed
    by silence.
    """

    def __init__(
        self,
        *,
        spectrogram: LogMel,
        seconds: float = 2.0,
        segments: int = 8,
        mean: float = 0.0,
        std: float = 1.0,
        limit_seconds: float = 3600.0,
        max_bytes: int = 2 * GIB,
    ) -> None:
        super().__init__(sample_rate=spectrogram.rate, limit_seconds=limit_seconds, max_bytes=max_bytes)
        if seconds * spectrogram.rate < 1 or segments < 1 or std <= 0:
            raise ConfigError(
                f"MelSegments: seconds, segments and std must be above 0, found {seconds}, {segments} and {std}"
            )
        self.log_mel, self.segments, self.mean, self.std = spectrogram, segments, mean, std
        self.length = round(seconds * spectrogram.rate)

    @property
    def draws(self) -> bool:
        """Whether training augments."""
        return False

    def prepare(
        self, raw: Sound, generator: torch.Generator | None = None
    ) -> Float[Tensor, "pieces frames mels 1"]:
        """The spectrograms of the pieces."""
        samples = self._samples(raw, None)
        samples = F.pad(samples, (0, max(0, self.length - len(samples))))
        pieces = [self.log_mel(samples[start : start + self.length]) for start in self._starts(len(samples))]
        return ((torch.stack(pieces) - self.mean) / self.std)[..., None]

    def blank(self) -> Float[Tensor, "1 frames mels 1"]:
        """One piece of zeros."""
        return torch.zeros(1, self.log_mel.frames(self.length), self.log_mel.mels, 1)

    def show(self, raw: Sound) -> str:
        """A player above a spectrogram, of the first 30 s."""
        return player(raw, self.log_mel)

    def _starts(self, samples: int) -> list[int]:
        """Where the pieces begin in a recording of so many samples."""
        count = min(self.segments, math.ceil(samples / self.length))
        return [index * (samples - self.length) // max(count - 1, 1) for index in range(count)]
