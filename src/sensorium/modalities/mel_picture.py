"""Sound of one fixed length as a log-mel spectrogram, as public checkpoints take it (CLAP, Whisper)."""

from __future__ import annotations

from typing import final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..core import ConfigError, nearest
from . import draws
from .files import GIB
from .recordings import Recordings, player
from .sound_file import Sound
from .spectrogram import LogMel

SHORT = ("silence", "repeat", "repeat_whole")
LONG = ("first", "crop", "fusion")
_VIEWS = 4  # of "fusion"


@final
class MelPicture(Recordings):
    """Recordings of ``seconds`` as ``(log-mel - mean) / std``, float32 [frames, mels, views].

    Shorter ones are followed by silence, or repeated up to the end ("repeat"), or repeated as often as they fit as a
    whole and followed by silence ("repeat_whole"). Of longer ones, ``long`` takes the "first" part, or one part
    ("crop"): the middle one, in training one drawn from the generator. There is then one view. With "fusion" (Wu
    et al. 2023, arXiv:2211.06687) there are four: the whole recording shrunk to the same number of frames, then a
    part of its first, middle and last third, each the middle one or drawn; of a recording that is not longer, four
    times the same. So a recording was longer if its views differ. (Where no recording of a batch is longer, the
    reference declares a random one to be.)
    """

    def __init__(
        self,
        *,
        spectrogram: LogMel,
        seconds: float,
        short: str = "silence",
        long: str = "first",
        mean: float = 0.0,
        std: float = 1.0,
        limit_seconds: float = 3600.0,
        max_bytes: int = 2 * GIB,
    ) -> None:
        super().__init__(sample_rate=spectrogram.rate, limit_seconds=limit_seconds, max_bytes=max_bytes)
        for name, value, known in (("short", short, SHORT), ("long", long, LONG)):
            if value not in known:
                raise ConfigError(f"MelPicture.{name}: there is no {value!r}{nearest(value, known)}")
        if seconds * spectrogram.rate < 1 or std <= 0:
            raise ConfigError(f"MelPicture: seconds and std must be above 0, found {seconds} and {std}")
        self.log_mel, self.short, self.long, self.mean, self.std = spectrogram, short, long, mean, std
        self.length = round(seconds * spectrogram.rate)
        self.views = _VIEWS if long == "fusion" else 1

    @property
    def draws(self) -> bool:
        """Whether training draws which part of a long recording is heard."""
        return self.long != "first"

    def prepare(
        self, raw: Sound, generator: torch.Generator | None = None
    ) -> Float[Tensor, "frames mels views"]:
        """The spectrogram, float32 [frames, mels, views]."""
        samples = self._samples(raw, None)
        if self.long == "fusion" and len(samples) > self.length:
            views = self._fused(self.log_mel(samples), generator)
        else:
            views = self.log_mel(self._fixed(samples, generator))[..., None].expand(-1, -1, self.views)
        return (views - self.mean) / self.std

    def blank(self) -> Float[Tensor, "frames mels views"]:
        """Zeros."""
        return torch.zeros(self.log_mel.frames(self.length), self.log_mel.mels, self.views)

    def show(self, raw: Sound) -> str:
        """A player above a spectrogram, of the first 30 s."""
        return player(raw, self.log_mel)

    def _fixed(self, samples: Float[Tensor, "n"], generator: torch.Generator | None) -> Float[Tensor, "m"]:
        """Exactly ``length`` samples."""
        spare = len(samples) - self.length
        if spare >= 0:
            start = 0 if self.long == "first" else _place(range(spare + 1), generator)
            return samples[start : start + self.length]
        if self.short != "silence":
            times = self.length // len(samples)
            samples = samples.repeat(times + (self.short == "repeat"))[: self.length]
        return F.pad(samples, (0, self.length - len(samples)))

    def _fused(
        self, levels: Float[Tensor, "n mels"], generator: torch.Generator | None
    ) -> Float[Tensor, "frames mels 4"]:
        frames = self.log_mel.frames(self.length)
        if len(levels) == frames:  # longer by less than one step
            return levels[..., None].expand(-1, -1, _VIEWS)
        shrunk = F.interpolate(levels[None, None], size=(frames, levels.shape[1]), mode="bilinear")[0, 0]
        thirds = np.array_split(range(len(levels) - frames + 1), 3)
        starts = [_place(third, generator) if len(third) else 0 for third in thirds]
        return torch.stack([shrunk, *(levels[start : start + frames] for start in starts)], dim=-1)


def _place(choices: range | np.ndarray, generator: torch.Generator | None) -> int:
    """One of them: the middle one, or one that is drawn."""
    drawn = len(choices) // 2 if generator is None else draws.integer(generator, 0, len(choices) - 1)
    return int(choices[drawn])
