"""The encoder of discrete tokens."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from ...core.random import uniform
from ..layers.positions import sin_cos
from .encoded import Encoded, Encoder


class TokenEncoder(Encoder):
    """Embeddings of token ids with sine-cosine positions; read from left to right.

    Masking puts ``mask_id`` in place of a ``mask_ratio`` of tokens, never of the first (BERT, Devlin et al. 2018,
    arXiv:1810.04805). The embedding matrix is also what a tied language head predicts with.
    """

    causal = True

    def __init__(self, *, vocabulary: int, width: int, mask_id: int, mask_ratio: float = 0.3) -> None:
        super().__init__()
        self.width, self.mask_id, self.mask_ratio = width, mask_id, mask_ratio
        self.embedding = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.embedding.weight, std=width**-0.5)

    def forward(
        self,
        values: Int[Tensor, "n t"],
        lengths: Int[Tensor, "n"],
        corrupt: Bool[Tensor, "n"],
        seed: Int[Tensor, "n"],
    ) -> Encoded:
        count = values.shape[1]
        place = torch.arange(count, device=values.device)
        maskable = (place > 0) & (place < lengths[:, None]) & corrupt[:, None]
        masked = (uniform(seed, count) < self.mask_ratio) & maskable
        return Encoded(self.embed(values.masked_fill(masked, self.mask_id)), lengths, masked, values)

    def embed(self, ids: Int[Tensor, "n t"], start: int = 0) -> Tensor:
        """Input vectors of ids that stand at positions ``start`` onwards."""
        table = sin_cos([start + ids.shape[1]], self.width, ids.device)[start:]
        return self.embedding(ids) * self.width**0.5 + table
