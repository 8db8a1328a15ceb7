"""The decoder-only language model: a trunk over token rows, and the similarity with every token of the vocabulary.

Legend: m rows (tokens), d width, v tokens of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ...core.outputs import logits
from ..layers.cache import KVCache
from ..layers.linear import Linear
from ..layers.masks import Mask
from ..layers.packing import Packing
from ..layers.transformer import Transformer


class WordEmbedding(nn.Module):
    """A vector per token, times ``scale`` (Gemma: the root of the width), and ``project``-ed to the width of the trunk,
    if the table has another (OPT).
    """

    def __init__(
        self, *, vocabulary: int, width: int, scale: float = 1.0, project: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.token = nn.Embedding(vocabulary, width)
        nn.init.normal_(self.token.weight, std=0.02)
        self.scale = scale
        self.project = project if project is not None else nn.Identity()

    def forward(self, ids: Int[Tensor, "*m"]) -> Float[Tensor, "*m d"]:
        x = self.token(ids)
        if self.scale != 1:  # rounded to the type of the table, as public models were trained
            x = x * torch.tensor(self.scale, dtype=x.dtype, device=x.device)
        return self.project(x)


class PlaceEmbedding(nn.Module):
    """A learned vector for each of ``length`` places; ``first`` is the row of the first (2 in OPT)."""

    def __init__(self, *, length: int, width: int, first: int = 0) -> None:
        super().__init__()
        self.length, self.first = length, first
        self.place = nn.Embedding(length + first, width)
        nn.init.normal_(self.place.weight, std=0.02)

    def forward(self, x: Float[Tensor, "m d"], places: Int[Tensor, "m"]) -> Float[Tensor, "m d"]:
        """Rows with the vectors of their places added."""
        return x + self.place(places + self.first)


class VocabularyHead(Linear):
    """A row per token, apart from the table of words."""

    def __init__(self, *, width: int, vocabulary: int, bias: bool = False) -> None:
        super().__init__(width, vocabulary, bias=bias)


class LanguageModel(nn.Module):
    """Words through a trunk, from left to right (Radford et al. 2019; LLaMA, Touvron et al. 2023, arXiv:2302.13971).

    ``positions`` are added to the rows, where the trunk does not turn its queries and keys instead. ``norm`` follows
    the last block, then ``narrow``, if the table has another width (OPT). ``head`` has a row per token; without it, the
    table of ``embedding`` is used again (arXiv:1608.05859). Logits are multiplied by ``scale`` and, with ``softcap``,
    bent by ``softcap * tanh(logits / softcap)`` (Gemma 2, arXiv:2408.00118).
    """

    def __init__(
        self,
        *,
        embedding: WordEmbedding,
        trunk: Transformer,
        norm: nn.Module | None = None,
        positions: PlaceEmbedding | None = None,
        narrow: nn.Module | None = None,
        head: VocabularyHead | None = None,
        scale: float = 1.0,
        softcap: float | None = None,
    ) -> None:
        super().__init__()
        self.embedding, self.trunk = embedding, trunk
        self.norm = norm if norm is not None else nn.Identity()
        self.positions = positions
        self.narrow = narrow if narrow is not None else nn.Identity()
        self.head, self.scale, self.softcap = head, scale, softcap
        if head is not None and len(head.weight) != len(embedding.token.weight):
            raise ConfigError(
                f"the head has {len(head.weight)} tokens, the embedding {len(embedding.token.weight)}"
            )

    @property
    def width(self) -> int:
        """Of the rows of the trunk."""
        return self.trunk.width

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return len(self.embedding.token.weight)

    @property
    def context(self) -> int | None:
        """How many places there are; None where there is no table of them."""
        return None if self.positions is None else self.positions.length

    @property
    def table(self) -> Float[Tensor, "v d"]:
        """The row of each token that features are compared with."""
        return self.embedding.token.weight if self.head is None else self.head.weight

    @property
    def bias(self) -> Float[Tensor, "v"] | None:
        """What is added to the logit of each token."""
        return None if self.head is None else self.head.bias

    def forward(
        self,
        x: Float[Tensor, "m d"],
        packing: Packing,
        mask: Mask,
        places: Int[Tensor, "m"] | None = None,
        caches: Sequence[KVCache] | None = None,
    ) -> Float[Tensor, "m d"]:
        """Features of rows, from which logits are made; ``places`` are needed where they are a table."""
        if self.positions is not None:
            x = self.positions(x, places)
        return self.narrow(self.norm(self.trunk(x, packing, mask, caches=caches)))

    def logits(self, features: Float[Tensor, "*m d"]) -> Float[Tensor, "*m v"]:
        """Of the next token."""
        return logits(features, self.table, self.bias, self.scale, self.softcap)
