"""Language models that look ahead within what is given to them, and only back in what they write.

Legend: b sequences, t tokens of the longest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from ..layers.masks import Mask, Rule
from .places import Positions, Sequences, Visibility


class Prefix(Visibility):
    """All that comes before the first learnt token sees each other, however far apart; an answer is read from left to
    right (Raffel et al. 2020, arXiv:1910.10683; PaliGemma, Beyer et al. 2024, arXiv:2407.07726).
    """

    def __call__(self, sequences: Sequences) -> Mask:
        length = sequences.lengths
        if sequences.learnt is not None:
            learnt = sequences.learnt & sequences.real
            length = torch.where(learnt.any(1), learnt.long().argmax(1), length)
        return _also(sequences, lambda b, q, k: (q < length[b]) & (k < length[b]))


class MediaBlocks(Visibility):
    """Neighbouring rows of one medium see each other, those that come later too; else a token sees what is not later
    (GIT, Wang et al. 2022, arXiv:2205.14100; Gemma 3, arXiv:2503.19786). A window limits how far a row looks back, not
    ahead.
    """

    def __call__(self, sequences: Sequences) -> Mask:
        block = _runs(sequences.media)
        return _also(sequences, lambda b, q, k: (k > q) & (block[b, q] == block[b, k]) & (block[b, q] > 0))


class FromOne(Positions):
    """Tokens counted from one. Turned queries and keys depend on distances alone, but for rounding."""

    axes = 1

    def __call__(self, sequences: Sequences) -> Int[Tensor, "b t"]:
        places = torch.arange(1, sequences.ids.shape[1] + 1, device=sequences.ids.device)
        return places.expand(sequences.ids.shape)


def _runs(media: Int[Tensor, "b t"]) -> Int[Tensor, "b t"]:
    """The number of the stretch of one kind of medium that each place is in; 0 for words."""
    begins = media > 0
    begins[:, 1:] &= media[:, 1:] != media[:, :-1]
    return begins.long().cumsum(1) * (media > 0)


def _also(sequences: Sequences, allows: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Mask:
    """Causal attention, and what else is allowed."""
    count, length = sequences.ids.shape
    return Mask(causal=True, also=Rule(allows, count, length, length, sequences.ids.device))
