"""Log-mel spectrograms: short-time power spectra on the mel scale of Slaney's Auditory Toolbox (1998)."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..core import ConfigError

_FLOOR = 1e-6  # power below which nothing is heard: -13.8 after the logarithm
_LINEAR = 200 / 3  # Hz per mel below the knee
_KNEE_HZ, _KNEE_MEL = 1000.0, 15.0
_STEP = math.log(6.4) / 27  # per mel above the knee


class LogMel:
    """``log(mel power + 1e-6)``, [frames, mels], of a signal at a fixed rate.

    Frame ``i`` is centred on sample ``i * hop``; there are ``ceil(n / hop)`` of them. ``window`` (Hann) and
    ``hop`` are in samples, frequencies in Hz. Filters are triangles of equal area, as in librosa and Whisper.
    """

    def __init__(self, *, rate: int, window: int, hop: int, mels: int, low: float, high: float) -> None:
        self.window, self.hop = window, hop
        self._taper = torch.hann_window(window)
        self._filters = mel_filters(rate=rate, window=window, mels=mels, low=low, high=high)

    def __call__(self, samples: Float[Tensor, "n"]) -> Float[Tensor, "frames mels"]:
        frames = max(1, math.ceil(len(samples) / self.hop))
        before = self.window // 2
        after = (frames - 1) * self.hop + self.window - before - len(samples)
        pieces = F.pad(samples, (before, after)).unfold(0, self.window, self.hop)
        spectrum = torch.view_as_real(torch.fft.rfft(pieces * self._taper))
        return (spectrum.square().sum(-1) @ self._filters).add_(_FLOOR).log_()


def mel_filters(*, rate: int, window: int, mels: int, low: float, high: float) -> Float[Tensor, "bins mels"]:
    """Triangular filters, each of area 1 over the frequency axis in Hz (up to sampling).

    Raises ConfigError if a filter falls between two bins of the spectrum and would always be silent.
    """
    places = torch.linspace(_mel(low), _mel(high), mels + 2, dtype=torch.float64)
    edges = torch.where(
        places < _KNEE_MEL, places * _LINEAR, _KNEE_HZ * torch.exp(_STEP * (places - _KNEE_MEL))
    )
    bins = torch.arange(window // 2 + 1, dtype=torch.float64)[:, None] * rate / window
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    filters = torch.minimum(rising, falling).clamp_min(0) * 2 / (right - left)
    empty = int((filters.sum(0) == 0).sum())
    if empty:
        raise ConfigError(
            f"{empty} of {mels} mel bands are narrower than the {rate / window:.1f} Hz between spectral "
            f"lines: use fewer mels, a longer window or a higher min_frequency"
        )
    return filters.float()


def _mel(hertz: float) -> float:
    if hertz < _KNEE_HZ:
        return hertz / _LINEAR
    return _KNEE_MEL + math.log(hertz / _KNEE_HZ) / _STEP
