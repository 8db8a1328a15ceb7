"""Learned queries between an encoder and a language model, and words that they may read along with.

Legend: n segments, q queries, t words of the longest, m words in all, s tokens of the longest, d width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..encoders.token_tower import TokenEmbedding
from ..encoders.tower import Features
from ..layers.attention import CrossAttention, SelfAttention
from ..layers.feed_forward import MLP
from ..layers.fused import FusedLinear
from ..layers.masks import Mask, padding
from ..layers.norms import LayerNorm
from ..layers.packing import Packing, packing, ragged_positions, real_places
from .connector import Connector, Rows


class QFormerBlock(nn.Module):
    """Queries and words look at one another, then queries at the context, if ``context_width`` says that this block
    has one; then each have a feed-forward of their own, words only if the block ``reads``. The stream is normalised
    after each layer, as in BERT.
    """

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        hidden: int,
        context_width: int | None,
        reads: bool,
        activation: str,
        eps: float,
        dropout: float,
        attention_dropout: float,
    ) -> None:
        super().__init__()

        def norm() -> LayerNorm:
            return LayerNorm(width=width, eps=eps)

        def feed_forward() -> MLP:
            return MLP(width=width, hidden=hidden, activation=activation)

        self.attention = SelfAttention(width=width, heads=heads, dropout=attention_dropout)
        self.norm_attention = norm()
        self.cross: CrossAttention | None = None
        if context_width is not None:
            self.cross = CrossAttention(
                width=width, context_width=context_width, heads=heads, dropout=attention_dropout
            )
            self.norm_cross = norm()
        self.feed_queries, self.norm_queries = feed_forward(), norm()
        if reads:
            self.feed_words, self.norm_words = feed_forward(), norm()
        self.reads = reads
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        queries: Float[Tensor, "n q d"],
        words: Float[Tensor, "m d"],
        packing: Packing,
        mask: Mask,
        context: tuple[Float[Tensor, "n s c"], Mask] | None,
    ) -> tuple[Float[Tensor, "n q d"], Float[Tensor, "m d"]]:
        rows = torch.cat([queries.flatten(0, 1), words])
        rows = self.norm_attention(rows + self.dropout(self.attention(rows, packing, mask)))
        attended, words = rows.split([len(rows) - len(words), len(words)])
        queries = attended.view_as(queries)
        if self.cross is not None and context is not None:
            queries = self.norm_cross(queries + self.dropout(self.cross(queries, *context)))
        queries = self.norm_queries(queries + self.dropout(self.feed_queries(queries)))
        if self.reads:
            words = self.norm_words(words + self.dropout(self.feed_words(words)))
        return queries, words


class QFormer(nn.Module):
    """The querying transformer of BLIP-2 (Li et al. 2023, arXiv:2301.12597): ``queries`` learned vectors that look at
    tokens of width ``inner`` in every block whose number ``every`` divides.

    With ``words``, an embedding of token ids without a norm of its own, queries and words look at one another: an
    instruction (InstructBLIP, Dai et al. 2023, arXiv:2305.06500), or the text of which BLIP-2 says whether it fits.
    """

    def __init__(
        self,
        *,
        inner: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int,
        queries: int,
        every: int = 2,
        words: TokenEmbedding | None = None,
        activation: str = "gelu",
        eps: float = 1e-12,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if queries < 1 or every < 1:
            raise ConfigError(
                f"a Q-Former needs queries, and tokens every so often: found {queries}, {every}"
            )
        self.width = width
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.words = words
        self.norm_in, self.dropout = LayerNorm(width=width, eps=eps), nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            QFormerBlock(
                width=width,
                heads=heads,
                hidden=hidden,
                context_width=None if index % every else inner,
                reads=words is not None,
                activation=activation,
                eps=eps,
                dropout=dropout,
                attention_dropout=attention_dropout,
            )
            for index in range(depth)
        )
        self._initialise()

    def _initialise(self) -> None:
        for layer in self.blocks.modules():
            if isinstance(layer, nn.Linear | FusedLinear):
                nn.init.normal_(layer.weight, std=0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(
        self,
        features: Features,
        ids: Int[Tensor, "n t"] | None = None,
        lengths: Int[Tensor, "n"] | None = None,
    ) -> Float[Tensor, "n q d"]:
        """What the queries found in each segment, having read its words if there are ``ids``, of which the first
        ``lengths`` are real. Raises ConfigError for words without their embedding or their lengths.
        """
        counts = features.lengths
        real = real_places(counts, int(counts.max()) if len(counts) else 0)
        context = packing(real).pad(features.rows), padding(real, queries=len(self.queries))
        queries = self.queries.expand(len(counts), -1, -1)
        if ids is None:
            ids, lengths = counts.new_zeros(len(counts), 0), torch.zeros_like(counts)
        elif lengths is None:
            raise ConfigError("words that queries read need their lengths, found none")
        return self._run(queries, ids, lengths, context)[0]

    def read(self, ids: Int[Tensor, "n t"], lengths: Int[Tensor, "n"]) -> Float[Tensor, "m d"]:
        """Words alone, as an encoder of texts: the rows of all texts, one after the other."""
        return self._run(self.queries.new_zeros(len(ids), 0, self.width), ids, lengths, None)[1]

    def _run(
        self,
        queries: Float[Tensor, "n q d"],
        ids: Int[Tensor, "n t"],
        lengths: Int[Tensor, "n"],
        context: tuple[Float[Tensor, "n s c"], Mask] | None,
    ) -> tuple[Float[Tensor, "n q d"], Float[Tensor, "m d"]]:
        real = real_places(lengths, ids.shape[1])
        words = self._embedded(ids[real], ragged_positions(lengths))
        joined = torch.cat([real.new_ones(queries.shape[:2]), real], dim=1)
        place, mask = _queries_first(joined, queries.shape[1]), padding(joined)
        queries, words = (self.dropout(self.norm_in(x)) for x in (queries, words))
        for block in self.blocks:
            queries, words = block(queries, words, place, mask, context)
        return queries, words

    def _embedded(self, ids: Int[Tensor, "m"], places: Int[Tensor, "m"]) -> Float[Tensor, "m d"]:
        if self.words is None:
            if len(ids):
                raise ConfigError("this Q-Former has no embedding of words, found words to read")
            return self.queries.new_zeros(0, self.width)
        if len(places) and int(places.max()) >= self.words.length:
            raise ConfigError(f"{int(places.max()) + 1} words are more than the {self.words.length} places")
        return self.words(ids, places)


class Queried(Connector):
    """The queries of a Q-Former as rows of a language model, after ``projector``, if any."""

    def __init__(self, *, qformer: QFormer, projector: Connector | None = None) -> None:
        super().__init__()
        self.qformer, self.projector = qformer, projector
        self.width = qformer.width if projector is None else projector.width

    def forward(
        self,
        features: Features,
        layout: Int[Tensor, "n k"] | None = None,
        ids: Int[Tensor, "n t"] | None = None,
        lengths: Int[Tensor, "n"] | None = None,
    ) -> Rows:
        """The rows of each segment; of ``ids``, its instruction, the first ``lengths`` are real."""
        found = self.qformer(features, ids, lengths)
        rows, counts = found.flatten(0, 1), torch.full_like(features.lengths, found.shape[1])
        if self.projector is None:
            return Rows(rows, counts)
        return self.projector(replace(features, rows=rows, lengths=counts), layout)


def _queries_first(real: Bool[Tensor, "n t"], queries: int) -> Packing:
    """The packing of rows of which those of all ``queries`` come first, then all words."""
    sequences, length = real.shape
    places = torch.arange(sequences * length, device=real.device).view(real.shape)
    words = places[:, queries:][real[:, queries:]]
    return Packing(torch.cat([places[:, :queries].flatten(), words]), sequences, length)
