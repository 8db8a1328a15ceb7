"""Attention structure as data: who may look at whom, from small integers per token.

One rule covers causal, bidirectional, prefix, interleaved and packed attention (after the integer masks of
big_vision). Shape legend: b sequences, q queries, k keys.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class Mask:
    """What an attention layer needs: a dense mask (True = may look), or plain causality, or nothing."""

    allowed: Bool[Tensor, "b q k"] | None = None
    causal: bool = False


def everything() -> Mask:
    """Every token looks at every token."""
    return Mask()


def causal() -> Mask:
    """A token looks at itself and at what came before; right padding then needs no mask of its own."""
    return Mask(causal=True)


def padding(real: Bool[Tensor, "b k"]) -> Mask:
    """Every token looks at the real ones."""
    return everything() if bool(real.all()) else Mask(allowed=real[:, None, :].expand(-1, real.shape[1], -1))


@dataclass(frozen=True)
class Layout:
    """Integers that place each token of ``b`` sequences of interleaved segments.

    ``segment``: which segment of the sequence, -1 for padding. ``block``: a token looks at tokens of no later
    block; the tokens of a context segment share one block and those of a target segment have one each.
    ``turn``: turn 0 is the common context. ``target``: to be produced. ``hidden``: sees and is seen by its own
    segment only.
    """

    segment: Int[Tensor, "b t"]
    block: Int[Tensor, "b t"]
    turn: Int[Tensor, "b t"]
    target: Bool[Tensor, "b t"]
    hidden: Bool[Tensor, "b t"]

    def __getitem__(self, positions: slice) -> Layout:
        return Layout(**{f.name: getattr(self, f.name)[:, positions] for f in fields(self)})

    def append(self, other: Layout) -> Layout:
        """The layout of these tokens followed by others."""
        return Layout(
            **{f.name: torch.cat([getattr(self, f.name), getattr(other, f.name)], 1) for f in fields(self)}
        )


def interleaved(query: Layout, key: Layout) -> Mask:
    """Bidirectional over context, causal over targets; a turn sees itself and the context of turn 0."""
    same_segment = query.segment[:, :, None] == key.segment[:, None, :]
    in_turn = query.turn[:, :, None] == key.turn[:, None, :]
    shared = ((key.turn == 0) & ~key.target)[:, None, :]
    apart = query.hidden[:, :, None] | key.hidden[:, None, :]
    allowed = (
        (in_turn | shared) & (key.block[:, None, :] <= query.block[:, :, None]) & (same_segment | ~apart)
    )
    real = (key.segment >= 0)[:, None, :]
    # A padding query looks at padding: a row without any key would be undefined.
    return Mask(allowed=(allowed & real) | ((query.segment < 0)[:, :, None] & ~real))
