"""What stands for a medium among the words: one token for each row of features that will be put in their place."""

from __future__ import annotations

import abc
import math
from typing import final

from torch import Tensor

from ...core import ConfigError


class Placeholder(abc.ABC):
    """``written`` is what a chat template writes for one medium, ``token`` what holds the place of one row."""

    written: str
    token: str

    @abc.abstractmethod
    def expand(self, values: Tensor, layout: tuple[int, ...] | None) -> list[str]:
        """What takes the place of ``written`` for a medium of these prepared values: text and special tokens."""


@final
class Repeated(Placeholder):
    """``before``, so many of ``token``, ``after``: a fixed ``count`` (LLaVA, Gemma 3), or one per prepared value."""

    def __init__(
        self, *, written: str, token: str, count: int | None = None, before: str = "", after: str = ""
    ) -> None:
        _check(written=written, token=token)
        if count is not None and count < 1:
            raise ConfigError(f"Repeated.count must be at least 1, found {count}")
        self.written, self.token, self.count = written, token, count
        self.before, self.after = before, after

    def expand(self, values: Tensor, layout: tuple[int, ...] | None) -> list[str]:
        return _framed(self.before, [self.token] * (self.count or len(values)), self.after)


@final
class PerPiece(Placeholder):
    """``count`` of ``token`` for each piece of a medium, as a tile or a frame: InternVL, Video-LLaVA."""

    def __init__(self, *, written: str, token: str, count: int, before: str = "", after: str = "") -> None:
        _check(written=written, token=token)
        if count < 1:
            raise ConfigError(f"PerPiece.count must be at least 1, found {count}")
        self.written, self.token, self.count = written, token, count
        self.before, self.after = before, after

    def expand(self, values: Tensor, layout: tuple[int, ...] | None) -> list[str]:
        return _framed(self.before, [self.token] * (self.count * len(values)), self.after)


@final
class MergedGrid(Placeholder):
    """One ``token`` for each ``merge`` x ``merge`` patches, whose number is the product of the layout: Qwen-VL."""

    def __init__(
        self, *, written: str, token: str, merge: int = 2, before: str = "", after: str = ""
    ) -> None:
        _check(written=written, token=token)
        if merge < 1:
            raise ConfigError(f"MergedGrid.merge must be at least 1, found {merge}")
        self.written, self.token, self.merge = written, token, merge
        self.before, self.after = before, after

    def expand(self, values: Tensor, layout: tuple[int, ...] | None) -> list[str]:
        if layout is None:
            raise ConfigError(
                f"{self.written!r} stands for patches in a grid: the modality must give a layout"
            )
        patches = math.prod(layout)
        if patches % self.merge**2:
            raise ConfigError(f"the layout {layout} is not of whole squares of {self.merge} x {self.merge}")
        return _framed(self.before, [self.token] * (patches // self.merge**2), self.after)


def _framed(before: str, tokens: list[str], after: str) -> list[str]:
    return [*([before] if before else []), *tokens, *([after] if after else [])]


def _check(**strings: str) -> None:
    for name, value in strings.items():
        if len(value) < 2:  # one character cannot be kept apart from what people write
            raise ConfigError(f"a placeholder's {name!r} must have at least 2 characters, found {value!r}")
