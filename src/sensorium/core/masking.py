"""How many tokens are hidden from a model: known before anything is drawn, so that losses can be counted."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor


def masked_count(lengths: Int[Tensor, "n"], ratio: float) -> Int[Tensor, "n"]:
    """How many tokens of texts are masked: ``ratio`` of each, rounded, at least one, and never the two at its ends."""
    return (lengths.double() * ratio).round().long().clamp(min=1).minimum((lengths - 2).clamp(min=0))
