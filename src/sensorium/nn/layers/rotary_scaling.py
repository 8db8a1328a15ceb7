"""Rotary positions for longer sequences than a model was first trained on: by how much each pair of channels turns.

Legend: b sequences (1 where all are alike), p pairs of channels.
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...core.errors import ConfigError


def frequencies(width: int, base: float, device: torch.device | None = None) -> Float[Tensor, "p"]:
    """Radians per place of each pair of ``width`` channels: ``base ** (-2i / width)`` for pair i, single precision."""
    return 1.0 / base ** _shares(width, device)


class Scaling(abc.ABC):
    """A rule that changes the frequencies of ``width`` channels. Two that are equal change them alike. ``by_length``:
    those of a long sequence are others than those of a short one.
    """

    by_length: ClassVar[bool] = False

    @property
    def attention_factor(self) -> float:
        """What cosines and sines are multiplied with: products of queries and keys grow by its square."""
        return 1.0

    @abc.abstractmethod
    def frequencies(self, width: int, base: float, lengths: Int[Tensor, "b"]) -> Float[Tensor, "#b p"]:
        """Radians per place, for sequences of ``lengths`` (one more than their largest place)."""

    def check(self, width: int) -> None:  # noqa: B027
        """Raise ConfigError if this rule is for another number of channels; default: it is for any."""


@dataclass(frozen=True)
class LinearScaling(Scaling):
    """All places are divided by ``factor`` (position interpolation, Chen et al. 2023, arXiv:2306.15595)."""

    factor: float

    def __post_init__(self) -> None:
        _check_factor(self)

    def frequencies(self, width: int, base: float, lengths: Int[Tensor, "b"]) -> Float[Tensor, "1 p"]:
        return frequencies(width, base, lengths.device)[None] / self.factor


@dataclass(frozen=True)
class DynamicNTK(Scaling):
    """The base grows with each sequence that is longer than ``original`` (bloc97 and emozilla 2023; compared in
    arXiv:2309.00071).
    """

    by_length: ClassVar[bool] = True
    factor: float
    original: int

    def __post_init__(self) -> None:
        _check_factor(self)
        _check_original(self)

    def check(self, width: int) -> None:
        if width < 4:
            raise ConfigError(f"DynamicNTK: expected at least 4 channels that turn, found {width}")

    def frequencies(self, width: int, base: float, lengths: Int[Tensor, "b"]) -> Float[Tensor, "b p"]:
        stretch = self.factor * lengths.clamp(min=self.original) / self.original - (self.factor - 1)
        return 1.0 / (base * stretch ** (width / (width - 2)))[:, None] ** _shares(width, lengths.device)


@dataclass(frozen=True)
class Yarn(Scaling):
    """Pairs that turn more than ``fast`` times within ``original`` places stay, those that turn less than ``slow``
    times are divided by ``factor``, and those between pass from one to the other (YaRN, Peng et al. 2023,
    arXiv:2309.00071). ``truncate``: the range between begins and ends at whole pairs.

    ``attention`` is by default ``1 + 0.1 ln(factor)``; with ``mscale`` and ``mscale_all_dim`` (DeepSeek) it is the
    quotient of what these make of it.
    """

    factor: float
    original: int
    fast: float = 32.0
    slow: float = 1.0
    truncate: bool = True
    attention: float | None = None
    mscale: float | None = None
    mscale_all_dim: float | None = None

    def __post_init__(self) -> None:
        _check_factor(self)
        _check_original(self)
        _check_attention(self)
        if not 0 < self.slow <= self.fast < math.inf:
            raise ConfigError(f"Yarn: expected 0 < slow <= fast, found {self.slow} and {self.fast}")

    @property
    def attention_factor(self) -> float:
        if self.attention is not None:
            return self.attention
        if self.mscale and self.mscale_all_dim:
            return self._magnitude(self.mscale) / self._magnitude(self.mscale_all_dim)
        return self._magnitude(1.0)

    def frequencies(self, width: int, base: float, lengths: Int[Tensor, "b"]) -> Float[Tensor, "1 p"]:
        radius = base ** _shares(width, lengths.device)[None]
        low, high = (self._pair(turns, width, base) for turns in (self.fast, self.slow))
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, width - 1)
        high = high if high != low else low + 0.001
        kept = 1 - ((torch.arange(width // 2, device=lengths.device) - low) / (high - low)).clamp(0, 1)
        return 1.0 / (self.factor * radius) * (1 - kept) + 1.0 / radius * kept

    def _magnitude(self, scale: float) -> float:
        return 1.0 + 0.1 * scale * math.log(self.factor) if self.factor > 1 else 1.0

    def _pair(self, turns: float, width: int, base: float) -> float:
        """Which pair turns so many times within ``original`` places; a number between two."""
        return width * math.log(self.original / (turns * 2 * math.pi)) / (2 * math.log(base))


@dataclass(frozen=True)
class LongRope(Scaling):
    """Each pair has a divisor of its own: one of ``long`` in a sequence longer than ``original``, else one of ``short``
    (LongRoPE, Ding et al. 2024, arXiv:2402.13753). ``factor`` is how many times longer than ``original`` sequences may
    be; ``attention`` follows from it, unless it is given.
    """

    by_length: ClassVar[bool] = True
    short: Sequence[float]
    long: Sequence[float]
    original: int
    factor: float = 1.0
    attention: float | None = None

    def __post_init__(self) -> None:
        _check_factor(self)
        _check_original(self)
        _check_attention(self)
        for name in ("short", "long"):
            divisors = tuple(getattr(self, name))
            if not all(0 < divisor < math.inf for divisor in divisors):
                raise ConfigError(f"LongRope.{name}: expected numbers above 0, found {divisors}")
            object.__setattr__(self, name, divisors)  # hashable, as a Spec gives lists

    def check(self, width: int) -> None:
        for name in ("short", "long"):
            if len(getattr(self, name)) != width // 2:
                found = len(getattr(self, name))
                raise ConfigError(
                    f"LongRope.{name}: expected a number for each of {width // 2} pairs, found {found}"
                )

    @property
    def attention_factor(self) -> float:
        if self.attention is not None:
            return self.attention
        return math.sqrt(1 + math.log(self.factor) / math.log(self.original)) if self.factor > 1 else 1.0

    def frequencies(self, width: int, base: float, lengths: Int[Tensor, "b"]) -> Float[Tensor, "b p"]:
        short, long = torch.tensor([self.short, self.long], dtype=torch.float32, device=lengths.device)
        divisors = torch.where(lengths[:, None] > self.original, long, short)
        return 1.0 / (divisors * base ** _shares(width, lengths.device))


@dataclass(frozen=True)
class Llama3(Scaling):
    """Pairs that turn more than ``high`` times within ``original`` places stay, those that turn less than ``low`` times
    are divided by ``factor``, and those between pass from one to the other (LLaMA 3.1, arXiv:2407.21783).
    """

    factor: float
    original: int
    low: float = 1.0
    high: float = 4.0

    def __post_init__(self) -> None:
        _check_factor(self)
        _check_original(self)
        if not 0 < self.low < self.high < math.inf:
            raise ConfigError(f"Llama3: expected 0 < low < high, found {self.low} and {self.high}")

    def frequencies(self, width: int, base: float, lengths: Int[Tensor, "b"]) -> Float[Tensor, "1 p"]:
        plain = frequencies(width, base, lengths.device)[None]
        turns = self.original / (2 * math.pi / plain)
        kept = ((turns - self.low) / (self.high - self.low)).clamp(0, 1)
        return (1 - kept) * plain / self.factor + kept * plain


def _shares(width: int, device: torch.device | None) -> Float[Tensor, "p"]:
    return torch.arange(0, width, 2, device=device).float() / width


def _check_factor(scaling: LinearScaling | DynamicNTK | Yarn | LongRope | Llama3) -> None:
    if not 1 <= scaling.factor < math.inf:
        raise ConfigError(f"{type(scaling).__name__}.factor must be at least 1, found {scaling.factor}")


def _check_original(scaling: DynamicNTK | Yarn | LongRope | Llama3) -> None:
    if scaling.original < 2:
        raise ConfigError(
            f"{type(scaling).__name__}.original must be at least 2 places, found {scaling.original}"
        )


def _check_attention(scaling: Yarn | LongRope) -> None:
    if scaling.attention is not None and not 0 < scaling.attention < math.inf:
        raise ConfigError(f"{type(scaling).__name__}.attention must be above 0, found {scaling.attention}")
