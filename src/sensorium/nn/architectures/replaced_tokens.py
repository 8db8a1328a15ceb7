"""Text encoders that learn by telling replaced tokens from original ones.

ELECTRA (Clark et al. 2020, arXiv:2003.10555).
Legend: n segments, t tokens of the longest, m tokens that are looked at, v tokens of the vocabulary.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.batch import Batch
from ...core.errors import CapabilityError, ConfigError
from ...core.outputs import Judgement, Outputs, TokenPrediction
from ...core.random import uniform
from ...core.spec import Spec
from ..encoders.masking import Masking
from ..encoders.token_tower import TokenEmbedding, TokenTower
from ..heads.replaced import ReplacedTokenHead
from ..layers.packing import packing
from .network import Network

_REPLACEMENT = 4  # added to a segment's seed: masking and pairs have the draws before


class ReplacedTokens(Network):
    """A ``tower`` for the modality ``language`` that judges each token, and a small ``generator`` that replaces some.

    Both share their tables of tokens, places and types. ``head``, the Spec of a ``MaskedLanguageHead``, is the
    generator's. Without a generator, as in public checkpoints, the network can judge but not be trained to.
    """

    language: str

    def __init__(
        self,
        *,
        language: str,
        tower: TokenTower,
        judge: ReplacedTokenHead,
        masking: Masking,
        generator: TokenTower | None = None,
        head: Spec | None = None,
    ) -> None:
        super().__init__()
        if (generator is None) != (head is None):
            raise ConfigError("generator and head need each other: the head is the generator's")
        self.towers = nn.ModuleDict({language: tower})
        self.language, self.masking = language, masking
        self.judge, self.generator, self.head = judge, generator, None
        if generator is not None and head is not None:
            _share(tower.embedding, generator.embedding)
            vocabulary, width = tower.embedding.token.weight.shape
            self.head = head.replace(width=generator.width, vocabulary=vocabulary, embedding=width).build()

    @property
    def tower(self) -> TokenTower:
        """The one that judges."""
        return cast(TokenTower, self.towers[self.language])

    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs:
        """What the generator restores, and what the tower says of every token once that stands in its place."""
        if embed_only:
            return Outputs({self.language: self.contrasted(self.language, batch)})
        if self.generator is None or self.head is None:
            raise CapabilityError(
                "this network has no generator, so nothing replaces the tokens it should judge"
            )
        stream = batch.streams[self.language]
        stream = stream.select(stream.corrupt)
        table = self.tower.embedding.token.weight
        drawn = self.masking(stream, len(table))
        place = packing(stream.padding())
        masked, truth = place.pack(drawn.masked), place.pack(stream.values)
        owner = stream.owner.repeat_interleave(stream.lengths)
        rows = self.generator(drawn.ids, stream.lengths).rows
        restored = TokenPrediction(
            self.head(rows[masked], table),
            truth[masked],
            owner[masked],
            place.pack(drawn.shares())[masked].to(rows.dtype),
        )
        number = place.pack(uniform(stream.seed + _REPLACEMENT, stream.values.shape[1]))[masked]
        ids = truth.masked_scatter(masked, sample(restored.logits, number))
        judged = Judgement(self.judged(place.pad(ids), stream.lengths), ids != truth, owner)
        return Outputs(masked_tokens={self.language: restored}, replaced_tokens={self.language: judged})

    def judged(
        self, ids: Int[Tensor, "n t"], lengths: Int[Tensor, "n"], types: Int[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "m"]:
        """The logit of "replaced" of each real token, one text after the other."""
        return self.judge(self.tower(ids, lengths, types).rows)


@torch.no_grad()
def sample(logits: Float[Tensor, "m v"], number: Float[Tensor, "m"]) -> Int[Tensor, "m"]:
    """One token for each row, with the probabilities that its logits stand for; ``number`` in [0, 1) decides."""
    below = logits.float().softmax(1).cumsum(1)
    return torch.searchsorted(below, number[:, None], right=True)[:, 0].clamp(max=logits.shape[1] - 1)


def _share(own: TokenEmbedding, other: TokenEmbedding) -> None:
    """Give ``other`` the tables of ``own``. Raises ConfigError where they differ in size."""
    for name in ("token", "position", "kind", "norm"):
        mine, theirs = getattr(own, name), getattr(other, name)
        shapes = [
            [list(p.shape) for p in part.parameters()] if part is not None else [] for part in (mine, theirs)
        ]
        if shapes[0] != shapes[1]:
            raise ConfigError(
                f"generator and tower share their {name} embeddings: of {shapes[0]} here and {shapes[1]} there"
            )
        setattr(other, name, mine)
