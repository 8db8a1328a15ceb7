"""Which pairs of channels turn with which coordinate of a place (multimodal RoPE)."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass

from ...core.errors import ConfigError


@dataclass(frozen=True)
class Sections(abc.ABC):
    """Of all pairs, each axis has as many as ``sizes`` says. Unlike equal shares, their frequencies are those of the
    whole: each occurs once. Raises ConfigError for sizes that cannot be.
    """

    sizes: Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))  # hashable, as a Spec gives lists
        found = self.axes() if self.sizes and min(self.sizes) >= 1 else []
        if [found.count(axis) for axis in range(len(self.sizes))] != list(self.sizes) or not found:
            raise ConfigError(
                f"{type(self).__name__}: the pairs cannot be shared as {list(self.sizes)} among the axes"
            )

    @abc.abstractmethod
    def axes(self) -> list[int]:
        """The axis of each pair."""


@dataclass(frozen=True)
class Chunked(Sections):
    """One axis after the other (Qwen2-VL, Wang et al. 2024, arXiv:2409.12191)."""

    def axes(self) -> list[int]:
        return [axis for axis, size in enumerate(self.sizes) for _ in range(size)]


@dataclass(frozen=True)
class Interleaved(Sections):
    """In turn, as long as an axis has pairs left; what remains at the end turns with the first (Qwen3-VL,
    arXiv:2511.21631), so that each axis has fast and slow pairs.
    """

    def axes(self) -> list[int]:
        count = len(self.sizes)
        turns = (divmod(pair, count) for pair in range(sum(self.sizes)))
        return [axis if turn < self.sizes[axis] else 0 for turn, axis in turns]
