"""Tokens that say where in a step of a longer sequence they stand."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .language_model import WordEmbedding


class LocalWords(WordEmbedding):
    """A vector per token and one for its place within a step, of ``places`` (Gato, Reed et al. 2022, arXiv:2205.06175):
    the id ``token + vocabulary * (1 + place)`` has both. Plain ids, which are those that a model writes, share one
    vector for having no place.
    """

    def __init__(self, *, vocabulary: int, width: int, places: int) -> None:
        super().__init__(vocabulary=vocabulary, width=width)
        self.place = nn.Embedding(1 + places, width)
        nn.init.normal_(self.place.weight, std=0.02)

    def forward(self, ids: Int[Tensor, "*m"]) -> Float[Tensor, "*m d"]:
        vocabulary = len(self.token.weight)
        place = torch.div(ids, vocabulary, rounding_mode="floor")
        return super().forward(ids % vocabulary) + self.place(place)
