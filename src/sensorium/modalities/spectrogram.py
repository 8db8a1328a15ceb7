"""Log-mel spectrograms: short-time power spectra on a mel scale, as many projects define them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from ..core import ConfigError, nearest

_FLOOR = 1e-6  # power below which nothing is heard: -13.8 after the logarithm
_LINEAR = 200 / 3  # Hz per mel below the knee
_KNEE_HZ, _KNEE_MEL = 1000.0, 15.0
_STEP = math.log(6.4) / 27  # per mel above the knee
_UNITS = ("nat", "bel", "decibel")
_SCALES = ("slaney", "htk")
_EDGES = ("silence", "reflect")


class LogMel:
    """The logarithm of mel power, [frames, mels], of a signal at a fixed rate.

    Frame ``i`` is centred on sample ``i * hop``; there are ``ceil(n / hop)`` of them, with ``last_frame`` one more
    where ``n`` is a multiple of ``hop``. ``window`` (periodic Hann) and ``hop`` are in samples, frequencies in Hz.
    Outside the recording is silence, or its mirror image. Filters are triangles on the mel scale of Slaney's
    Auditory Toolbox (1998) or of HTK (O'Shaughnessy 1987), of equal area, as in librosa and Whisper, or of height 1.

    ``unit`` "nat" is ``log(power + floor)``; "bel" is ``log10(max(power, floor))``, "decibel" ten times that.
    ``span`` raises what is more than so many of these units below the loudest value of a recording. ``double``
    computes in double precision; the result is always float32.
    """

    def __init__(
        self,
        *,
        rate: int,
        window: int,
        hop: int,
        mels: int,
        low: float,
        high: float,
        scale: str = "slaney",
        equal_area: bool = True,
        edges: str = "silence",
        last_frame: bool = False,
        unit: str = "nat",
        floor: float = _FLOOR,
        span: float | None = None,
        double: bool = False,
    ) -> None:
        for name, value, known in (("unit", unit, _UNITS), ("edges", edges, _EDGES)):
            if value not in known:
                raise ConfigError(f"LogMel.{name}: there is no {value!r}{nearest(value, known)}")
        if not floor > 0 or (span is not None and not span > 0):
            raise ConfigError(f"LogMel: floor and span must be above 0, found {floor} and {span}")
        dtype = torch.float64 if double else torch.float32
        self.rate, self.window, self.hop, self.mels = rate, window, hop, mels
        self.edges, self.last_frame, self.unit, self.floor, self.span = edges, last_frame, unit, floor, span
        self._taper = torch.hann_window(window, dtype=dtype)
        self._filters = mel_filters(
            rate=rate, window=window, mels=mels, low=low, high=high, scale=scale, equal_area=equal_area
        ).to(dtype)

    def frames(self, samples: int) -> int:
        """The number of frames of so many samples."""
        return max(1, samples // self.hop + 1 if self.last_frame else math.ceil(samples / self.hop))

    def __call__(self, samples: Float[Tensor, "n"]) -> Float[Tensor, "frames mels"]:
        pieces = self._padded(samples).unfold(0, self.window, self.hop)
        spectrum = torch.view_as_real(torch.fft.rfft(pieces * self._taper))
        power = spectrum.square().sum(-1) @ self._filters
        if self.unit == "nat":
            levels = power.add_(self.floor).log_()
        else:
            levels = power.clamp_min_(self.floor).log10_().mul_(10 if self.unit == "decibel" else 1)
        if self.span is not None:
            levels.clamp_min_(float(levels.max()) - self.span)
        return levels.float()

    def _padded(self, samples: Float[Tensor, "n"]) -> Float[Tensor, "m"]:
        """With as much before and after as the frames need."""
        before = self.window // 2
        after = (self.frames(len(samples)) - 1) * self.hop + self.window - before - len(samples)
        samples = samples.to(self._taper.dtype)
        if self.edges == "silence":
            return F.pad(samples, (before, after))
        mirrored = np.pad(
            samples.numpy(), (before, max(after, 0)), mode="reflect"
        )  # also of short recordings
        return torch.from_numpy(mirrored)


def mel_filters(
    *,
    rate: int,
    window: int,
    mels: int,
    low: float,
    high: float,
    scale: str = "slaney",
    equal_area: bool = True,
) -> Float[Tensor, "bins mels"]:
    """Triangular filters in double precision, of area 1 over the frequency axis in Hz (up to sampling) or height 1.

    Raises ConfigError if a filter falls between two bins of the spectrum and would always be silent.
    """
    if scale not in _SCALES:
        raise ConfigError(f"there is no mel scale {scale!r}{nearest(scale, _SCALES)}")
    to_mel, to_hertz = _MEL[scale]
    edges = to_hertz(torch.linspace(to_mel(low), to_mel(high), mels + 2, dtype=torch.float64))
    bins = torch.arange(window // 2 + 1, dtype=torch.float64)[:, None] * rate / window
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    filters = torch.minimum(rising, falling).clamp_min(0)
    empty = int((filters.sum(0) == 0).sum())
    if empty:
        raise ConfigError(
            f"{empty} of {mels} mel bands are narrower than the {rate / window:.1f} Hz between spectral "
            f"lines: use fewer mels, a longer window or a higher min_frequency"
        )
    return filters * 2 / (right - left) if equal_area else filters


def _mel(hertz: float) -> float:
    if hertz < _KNEE_HZ:
        return hertz / _LINEAR
    return _KNEE_MEL + math.log(hertz / _KNEE_HZ) / _STEP


def _hertz(mels: Tensor) -> Tensor:
    return torch.where(mels < _KNEE_MEL, mels * _LINEAR, _KNEE_HZ * torch.exp(_STEP * (mels - _KNEE_MEL)))


def _htk_mel(hertz: float) -> float:
    return 2595 * math.log10(1 + hertz / 700)


def _htk_hertz(mels: Tensor) -> Tensor:
    return 700 * (10 ** (mels / 2595) - 1)


_MEL: dict[str, tuple[Callable[[float], float], Callable[[Tensor], Tensor]]] = {
    "slaney": (_mel, _hertz),
    "htk": (_htk_mel, _htk_hertz),
}
