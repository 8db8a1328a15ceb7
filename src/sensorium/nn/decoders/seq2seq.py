"""The encoder-decoder language model: one stack reads what is given, another writes and looks at what was read.

Legend: b sequences, s tokens of the longest that is read, t of the longest that is written, k and m packed rows of
both, d width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...core.spec import Spec
from ..layers.attention import CrossAttention, SelfAttention
from ..layers.blocks import Block, Kind
from ..layers.cache import KVCache
from ..layers.masks import Mask, padding
from ..layers.packing import Packing
from ..layers.relative import BucketBias
from ..layers.transformer import Transformer
from .language_model import LanguageModel, VocabularyHead, WordEmbedding


class Memory(KVCache):
    """What one block of a writer knows: the keys and values of what was read, computed once, and those of the tokens
    written so far. In training (``keeps`` false) all of them come at once, and nothing is kept.
    """

    def __init__(
        self,
        read: tuple[Float[Tensor, "b g s e"], Float[Tensor, "b g s e"]],
        real: Bool[Tensor, "b s"],
        writes: int,
        *,
        room: int = 0,
        keeps: bool = True,
    ) -> None:
        """``real`` are the tokens read that are no padding, ``writes`` how many rows look at them at a time."""
        super().__init__(room, keeps=keeps)
        self.read, self.mask = read, padding(real, queries=writes)
        self._real, self._writes = real, writes

    def select(self, rows: Int[Tensor, "k"]) -> None:
        super().select(rows)
        keys, values = self.read
        self.read, self._real = (keys[rows], values[rows]), self._real[rows]
        self.mask = padding(self._real, queries=self._writes)


class CrossBlock(Block):
    """A block of a writer, normalised before each layer: tokens look at those before them, then at what was read."""

    norms = ("norm_attention", "norm_cross", "norm_feed_forward")
    norm_cross: nn.Module

    def __init__(
        self,
        *,
        norm: Spec,
        attention: SelfAttention,
        cross: CrossAttention,
        feed_forward: nn.Module,
        branch: Spec | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(
            norm=norm, attention=attention, feed_forward=feed_forward, branch=branch, drop_path=drop_path
        )
        self.cross = cross
        self.branch_cross = branch.build() if branch is not None else nn.Identity()

    def forward(
        self, x: Tensor, packing: Packing, mask: Mask, kind: Kind = 0, cache: KVCache | None = None
    ) -> Tensor:
        assert isinstance(cache, Memory)
        attended = self.attention(self.norm_attention(x), packing, mask, cache)
        x = x + self._added(self.branch_attention, attended, packing)
        seen = packing.pack(self.cross.look(packing.pad(self.norm_cross(x)), cache.read, cache.mask))
        x = x + self._added(self.branch_cross, seen, packing)
        fed = self.feed_forward(self.norm_feed_forward(x), kind)
        return x + self._added(self.branch_feed_forward, fed, packing)


class Reader(nn.Module):
    """The stack that reads: every token looks at every other. ``distances`` add to what all blocks see of a pair."""

    def __init__(
        self, *, trunk: Transformer, norm: nn.Module, distances: BucketBias, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.trunk, self.norm, self.distances = trunk, norm, distances
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Float[Tensor, "m d"], packing: Packing, real: Bool[Tensor, "b s"]
    ) -> Float[Tensor, "m d"]:
        mask = replace(padding(real), bias=self.distances(packing.length, packing.length))
        return self.dropout(self.norm(self.trunk(self.dropout(x), packing, mask)))


class Seq2Seq(LanguageModel):
    """A ``reader``, and a ``trunk`` of ``CrossBlock`` that writes; both share the table of words (T5, Raffel et al.
    2019, arXiv:1910.10683).

    What is written begins after the token ``start``. The rest is as in ``LanguageModel``, whose caches are here those
    that ``memories`` gives.
    """

    def __init__(
        self,
        *,
        embedding: WordEmbedding,
        reader: Reader,
        trunk: Transformer,
        norm: nn.Module,
        distances: BucketBias,
        head: VocabularyHead | None = None,
        scale: float = 1.0,
        start: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(embedding=embedding, trunk=trunk, norm=norm, head=head, scale=scale)
        self.reader, self.distances, self.start = reader, distances, start
        self.dropout = nn.Dropout(dropout)

    def memories(
        self,
        x: Float[Tensor, "k d"],
        packing: Packing,
        real: Bool[Tensor, "b s"],
        *,
        writes: int = 1,
        room: int | None = None,
    ) -> list[Memory]:
        """What the reader makes of rows, for each block of the writer. That is then given ``writes`` tokens at once, or
        with ``room`` one after the other.
        """
        read = packing.pad(self.reader(x, packing, real))
        keeps = room is not None
        return [
            Memory(cast(CrossBlock, block).cross.context(read), real, writes, room=room or 0, keeps=keeps)
            for block in self.trunk.blocks
        ]

    def forward(
        self,
        x: Float[Tensor, "m d"],
        packing: Packing,
        mask: Mask,
        places: Int[Tensor, "m"] | None = None,
        caches: Sequence[KVCache] | None = None,
    ) -> Float[Tensor, "m d"]:
        """Features of the rows that are written, given the ``memories`` of what was read."""
        past = caches[0].length if caches else 0
        mask = replace(mask, bias=self.distances(packing.length, past + packing.length))
        return self.dropout(super().forward(self.dropout(x), packing, mask, places, caches))
