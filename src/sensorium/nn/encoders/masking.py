"""Which tokens of a text a model has to restore, and what it sees in their place.

Legend: n segments, t tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...core.batch import Stream
from ...core.errors import ConfigError
from ...core.masking import masked_count
from ...core.random import uniform

# What is added to a segment's seed for each of its draws.
_PLACES, _KINDS, _TOKENS = range(3)


@dataclass(frozen=True)
class Masked:
    """What the model sees, and where that is to be restored."""

    ids: Int[Tensor, "n t"]
    masked: Bool[Tensor, "n t"]

    def shares(self) -> Float[Tensor, "n t"]:
        """Equal weights that sum to one over the masked tokens of each segment."""
        return self.masked.double() / self.masked.sum(1, keepdim=True).clamp(min=1)


class Masking:
    """The draw of BERT (Devlin et al. 2018, arXiv:1810.04805), from each segment's own seed.

    A ``ratio`` of the tokens of a text, none of them ``special``: see ``masked_count``. The share ``masked`` of
    those becomes the token ``mask``, the share ``random`` any token, and the rest stays what it is, to be restored
    all the same. Without the number of ``mask``, drawing raises ConfigError.
    """

    def __init__(
        self,
        *,
        mask: int | None,
        special: Sequence[int],
        ratio: float = 0.15,
        masked: float = 0.8,
        random: float = 0.1,
    ) -> None:
        if not 0 <= ratio <= 1:
            raise ConfigError(f"masking.ratio must be from 0 to 1, found {ratio}")
        if masked < 0 or random < 0 or masked + random > 1:
            raise ConfigError(
                f"masking.masked and masking.random are shares of 1, found {masked} and {random}"
            )
        self.mask, self.special, self.ratio = mask, list(special), ratio
        self.masked, self.random = masked, random

    def __call__(self, stream: Stream, vocabulary: int) -> Masked:
        """Draw for the segments that are to be corrupt, of a ``vocabulary`` of so many tokens."""
        if self.mask is None:
            raise ConfigError(
                "masking.mask is not known: give the number of the token that stands for a masked one"
            )
        values, seed, count = stream.values, stream.seed, stream.values.shape[1]
        special = torch.tensor(self.special, dtype=values.dtype, device=values.device)
        maskable = stream.padding() & stream.corrupt[:, None] & ~torch.isin(values, special)
        drawn = uniform(seed + _PLACES, count).masked_fill(~maskable, 1.0)
        rank = drawn.argsort(dim=1, stable=True).argsort(dim=1)
        masked = maskable & (rank < masked_count(stream.lengths, self.ratio)[:, None])
        kind = uniform(seed + _KINDS, count)
        anything = (uniform(seed + _TOKENS, count) * vocabulary).long().clamp(max=vocabulary - 1)
        ids = torch.where(masked & (kind < self.masked + self.random), anything, values)
        return Masked(ids.masked_fill(masked & (kind < self.masked), self.mask), masked)
