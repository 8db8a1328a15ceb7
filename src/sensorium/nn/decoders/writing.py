"""Sequences that a language model is writing, over the caches of what it has read.

Legend: b sequences, v tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..layers.cache import KVCache
from ..layers.masks import Mask
from ..layers.packing import dense
from .language_model import LanguageModel


class Writing:
    """The ``caches`` of ``decoder`` hold ``lengths`` tokens of each sequence; ``logits`` are those of the next.

    ``history`` are the ids of the prompts. ``rows`` are what the trunk has read: packed rows of the prompts, from which
    the state of a single sequence tells what another prompt has in common with it. Where positions are not places,
    ``shift`` is how far they are apart.
    """

    def __init__(
        self,
        decoder: LanguageModel,
        caches: Sequence[KVCache],
        lengths: Int[Tensor, "b"],
        logits: Float[Tensor, "b v"],
        history: list[list[int]],
        rows: Float[Tensor, "m d"],
        shift: Int[Tensor, "b *axes"] | None = None,
    ) -> None:
        self.decoder, self.caches, self.lengths, self.logits = decoder, caches, lengths, logits
        self.history, self.shift = history, shift
        self._read: list[Tensor] | None = [rows] if len(lengths) == 1 else None
        self._even = _all_equal(lengths)

    def extend(self, ids: Int[Tensor, "b"]) -> None:
        """Append one token to each sequence."""
        places = self.lengths[:, None]
        positions = None
        if self.shift is not None:
            axes = self.shift.ndim - 1
            positions = places.view(-1, 1, *[1] * axes) + self.shift[:, None]
        # Of equal lengths the newest token is the last of all in the cache and sees everything.
        mask = (
            Mask(positions=positions) if self._even else Mask(causal=True, places=places, positions=positions)
        )
        x = self.decoder.embedding(ids)
        stand = self.lengths if positions is None or positions.ndim > 2 else positions[:, 0]
        self.logits = self.decoder.logits(self.decoder(x, dense(len(ids), 1), mask, stand, self.caches))
        self.lengths = self.lengths + 1
        if self._read is not None:
            self._read.append(x)

    def select(self, rows: Int[Tensor, "k"]) -> None:
        """Keep these sequences, in this order; one may come several times."""
        for cache in self.caches:
            cache.select(rows)
        self.lengths, self.logits = self.lengths[rows], self.logits[rows]
        self.shift = None if self.shift is None else self.shift[rows]
        self.history = [self.history[row] for row in rows.tolist()]
        self._read = None
        self._even = _all_equal(self.lengths)

    def common(self, rows: Float[Tensor, "m d"]) -> int:
        """How many of the first ``rows`` of another prompt this state has read already; never all of them."""
        if self._read is None:
            return 0
        read = torch.cat(self._read)
        most = min(len(read), len(rows) - 1)
        differ = (read[:most] != rows[:most]).any(1).nonzero()
        return int(differ[0]) if len(differ) else most


def _all_equal(lengths: Int[Tensor, "b"]) -> bool:
    return bool((lengths == lengths[:1]).all())
