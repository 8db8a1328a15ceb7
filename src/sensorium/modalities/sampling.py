"""Which frames of a film a model sees."""

from __future__ import annotations

import abc
from typing import final

from ..core import ConfigError, nearest

_SAME = 1 + 1e-6  # rates this near are the same


class Sampling(abc.ABC):
    """A rule that chooses frames. ``most`` is the largest number that it ever chooses.

    Frames that it chose, at the rate that they then have, are chosen again as they are.
    """

    most: int

    @abc.abstractmethod
    def places(self, count: int, rate: float) -> list[int]:
        """Which of ``count`` frames, at ``rate`` frames per second, counted from 0, in order."""


@final
class Evenly(Sampling):
    """``frames`` of them spread evenly; of a shorter film all, or, with ``fill``, some more than once.

    ``at`` says where in each of the equal parts of the film: their "middles" (Video-ChatGPT, InternVL) or "starts"
    (most video processors of transformers); or, with "ends", from the first frame to the last (Video-LLaVA's own code).
    """

    def __init__(self, *, frames: int = 8, at: str = "middles", fill: bool = False) -> None:
        if frames < 1:
            raise ConfigError(f"Evenly.frames must be at least 1, found {frames}")
        if at not in _RULES:
            raise ConfigError(f"Evenly.at: there is no rule {at!r}{nearest(at, _RULES)}")
        self.most, self.at, self.fill = frames, at, fill

    def places(self, count: int, rate: float = 1.0) -> list[int]:
        if count <= self.most and not self.fill:
            return list(range(count))
        return [_RULES[self.at](part, count, self.most) for part in range(self.most)]


@final
class Paced(Sampling):
    """About ``rate`` frames per second, spread evenly: ``least`` to ``most`` of them where there are so many, and a
    multiple of ``multiple`` (Qwen2-VL). Of a film at a lower rate, all.
    """

    def __init__(self, *, rate: float = 2.0, least: int = 4, most: int = 768, multiple: int = 2) -> None:
        if not 0 < rate < float("inf"):
            raise ConfigError(f"Paced.rate must be above 0 frames per second, found {rate}")
        if not 1 <= multiple <= most or least > most:
            raise ConfigError(
                f"Paced: multiple and least must be at most {most}, found {multiple} and {least}"
            )
        self.rate, self.least, self.most, self.multiple = rate, least, most, multiple

    def places(self, count: int, rate: float) -> list[int]:
        wanted = count if rate <= self.rate * _SAME else int(count / rate * self.rate)
        wanted = min(max(wanted, self.least), self.most, count)
        wanted = max(1, wanted // self.multiple * self.multiple)
        return [_RULES["starts"](part, count, wanted) for part in range(wanted)]


_RULES = {
    "middles": lambda part, count, parts: (2 * part + 1) * count // (2 * parts),
    "starts": lambda part, count, parts: part * count // parts,
    "ends": lambda part, count, parts: part * (count - 1) // max(1, parts - 1),
}
