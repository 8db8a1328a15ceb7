"""What a loss over samples of several processes needs to know about the others."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Exchange(Protocol):
    """One of ``size`` processes that all make the same calls in the same order."""

    @property
    def rank(self) -> int: ...

    @property
    def size(self) -> int: ...

    def sum(self, values: Tensor) -> Tensor:
        """Element-wise sum over all processes; may be made in ``values``."""

    def gather_rows(self, rows: Tensor) -> list[Tensor]:
        """Every process's rows, in rank order; their number may differ. Without gradients."""


class Alone:
    """The exchange of a single process."""

    rank, size = 0, 1

    def sum(self, values: Tensor) -> Tensor:
        return values

    def gather_rows(self, rows: Tensor) -> list[Tensor]:
        return [rows]


ALONE = Alone()
