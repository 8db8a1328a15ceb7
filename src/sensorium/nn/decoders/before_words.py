"""Media before words that do not count them: they see each other, and words have places and a norm of their own.

Legend: b sequences, t tokens of the longest, m rows, d width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..layers.masks import Mask, Rule
from .language_model import PlaceEmbedding
from .places import Positions, Sequences, Visibility


class MediaTogether(Visibility):
    """Rows of media that stand one after the other see each other; else a token sees what is not later (GIT, Wang et
    al. 2022, arXiv:2205.14100).
    """

    def __call__(self, sequences: Sequences) -> Mask:
        held = sequences.media > 0
        begins = held.clone()
        begins[:, 1:] &= ~held[:, :-1]
        run = torch.where(held, begins.cumsum(1), 0)
        count, length = run.shape
        return Mask(
            rule=Rule(
                lambda b, q, k: (k <= q) | ((run[b, q] > 0) & (run[b, q] == run[b, k])),
                count,
                length,
                length,
                run.device,
            )
        )


class WordPositions(Positions):
    """Words are counted, media are not: they stand at -1."""

    axes = 1

    def __call__(self, sequences: Sequences) -> Int[Tensor, "b t"]:
        words = sequences.media == 0
        return torch.where(words, words.cumsum(1) - 1, -1)


class PlacedWords(PlaceEmbedding):
    """Learned vectors of ``length`` places for words, then a ``norm`` and ``dropout``, as in BERT. What stands at -1 is
    no word and stays as it is.
    """

    def __init__(self, *, length: int, width: int, norm: nn.Module, dropout: float = 0.0) -> None:
        super().__init__(length=length, width=width)
        self.norm, self.dropout = norm, nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "m d"], places: Int[Tensor, "m"]) -> Float[Tensor, "m d"]:
        placed = self.dropout(self.norm(super().forward(x, places.clamp(min=0))))
        return torch.where(places[:, None] >= 0, placed, x)
