"""The text-like transformer: token ids with learned positions, through a transformer.

Legend: n segments, t tokens of the longest, m real tokens in all, d width.
"""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..heads.pooling import Pool
from ..layers.linear import Linear
from ..layers.masks import causal as left_to_right
from ..layers.masks import padding
from ..layers.packing import packing, ragged_positions, real_places
from ..layers.transformer import Transformer
from .tower import Features, Tower


class TokenEmbedding(nn.Module):
    """Vectors of token ids plus learned ones of their places, of which there are ``length``, and of their ``types``.

    ``offset`` is the row of the first place (2 in OPT, pad + 1 in RoBERTa). ``norm`` comes after the sum, then
    ``dropout``; where the trunk is wider or narrower, ``project`` is its width (ELECTRA).
    """

    def __init__(
        self,
        *,
        vocabulary: int,
        width: int,
        length: int,
        offset: int = 0,
        types: int = 0,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
        project: int | None = None,
    ) -> None:
        super().__init__()
        self.length, self.offset, self.types = length, offset, types
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(length + offset, width)
        self.kind = nn.Embedding(types, width) if types else None
        self.norm = norm if norm is not None else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.project = Linear(width, project) if project is not None else nn.Identity()
        for table in (self.token, self.position, *([self.kind] if self.kind is not None else [])):
            nn.init.normal_(table.weight, std=0.02)

    def forward(
        self,
        ids: Int[Tensor, "m"],
        places: Int[Tensor, "m"],
        types: Int[Tensor, "m"] | None = None,
    ) -> Float[Tensor, "m d"]:
        x = self.token(ids)
        if self.kind is not None:
            x = x + (self.kind.weight[0] if types is None else self.kind(types))
        x = x + self.position(places + self.offset)
        return self.project(self.dropout(self.norm(x)))


class TokenTower(Tower):
    """Token ids through a transformer, both ways or from left to right (``causal``).

    Only real tokens are computed. A text longer than the table of positions is a ConfigError.
    """

    def __init__(
        self,
        *,
        embedding: TokenEmbedding,
        trunk: Transformer,
        pool: Pool,
        norm_out: nn.Module | None = None,
        causal: bool = False,
    ) -> None:
        super().__init__()
        self.embedding, self.trunk, self.pool, self.causal = embedding, trunk, pool, causal
        self.norm_out = norm_out if norm_out is not None else nn.Identity()
        self.width, self.pooled_width = trunk.width, pool.width

    def forward(
        self,
        values: Int[Tensor, "n t"],
        lengths: Int[Tensor, "n"],
        types: Int[Tensor, "n t"] | None = None,
    ) -> Features:
        longest = values.shape[1]
        if longest > self.embedding.length:
            raise ConfigError(f"{longest} tokens are more than the {self.embedding.length} places")
        real = real_tokens(values, lengths)
        place = packing(real)
        x = self.embedding(
            place.pack(values), ragged_positions(lengths), None if types is None else place.pack(types)
        )
        mask = left_to_right() if self.causal else padding(real)
        rows = self.norm_out(self.trunk(x, place, mask))
        return Features(rows, lengths, self.pool(rows, lengths))


def real_tokens(ids: Int[Tensor, "n t"], lengths: Int[Tensor, "n"]) -> Bool[Tensor, "n t"]:
    """True where a token is no padding."""
    return real_places(lengths, ids.shape[1])
