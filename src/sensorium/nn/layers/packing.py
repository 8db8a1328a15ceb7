"""Packed rows: only real tokens are computed; padding exists inside attention alone.

Legend: m real tokens, b sequences, t tokens of the longest.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Packing:
    """Where each of ``m`` rows stands among ``sequences * length`` places; ``index`` None: row i at place i."""

    index: Int[Tensor, "m"] | None
    sequences: int
    length: int

    def pad(self, rows: Float[Tensor, "m *c"]) -> Float[Tensor, "b t *c"]:
        """The rows at their places, zeros elsewhere."""
        if self.index is not None:
            rows = rows.new_zeros(self.sequences * self.length, *rows.shape[1:]).index_copy(
                0, self.index, rows
            )
        return rows.unflatten(0, (self.sequences, self.length))

    def pack(self, padded: Float[Tensor, "b t *c"]) -> Float[Tensor, "m *c"]:
        """The rows back from their places."""
        flat = padded.flatten(0, 1)
        return flat if self.index is None else flat[self.index]

    def owners(self, device: torch.device) -> Int[Tensor, "m"]:
        """Which sequence each row is of."""
        places = (
            torch.arange(self.sequences * self.length, device=device) if self.index is None else self.index
        )
        return places // max(self.length, 1)


def real_places(lengths: Int[Tensor, "n"], longest: int) -> Bool[Tensor, "n t"]:
    """True where a place of ``longest`` is no padding."""
    return torch.arange(longest, device=lengths.device) < lengths[:, None]


def packing(real: Bool[Tensor, "b t"]) -> Packing:
    """The packing of the real tokens, in reading order."""
    sequences, length = real.shape
    index = None if bool(real.all()) else real.flatten().nonzero()[:, 0]
    return Packing(index, sequences, length)


def dense(sequences: int, length: int) -> Packing:
    """Every place is real."""
    return Packing(None, sequences, length)


def ragged_positions(lengths: Int[Tensor, "n"]) -> Int[Tensor, "m"]:
    """0, 1, ... for each length in turn: the position of each packed row within its segment."""
    ends = lengths.cumsum(0)
    total = int(ends[-1]) if len(ends) else 0
    return torch.arange(total, device=lengths.device) - (ends - lengths).repeat_interleave(lengths)
