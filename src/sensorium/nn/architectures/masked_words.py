"""Text encoders that learn by restoring masked tokens, and by telling whether one text follows another.

BERT (Devlin et al. 2018, arXiv:1810.04805), RoBERTa (Liu et al. 2019, arXiv:1907.11692), DistilBERT.
Legend: n segments, t tokens of the longest, m tokens that are looked at, v tokens of the vocabulary.
"""

from __future__ import annotations

from typing import cast

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...core.batch import Batch
from ...core.errors import CapabilityError
from ...core.outputs import ClassPrediction, Outputs, TokenPrediction
from ...core.spec import Spec
from ..encoders.masking import Masking
from ..encoders.token_tower import TokenTower, real_tokens
from ..layers.packing import packing
from .network import Network
from .pairs import pairs


class MaskedWords(Network):
    """A ``tower`` for the modality ``language`` with a head for masked tokens and, optionally, one for pairs of texts.

    ``head`` is the Spec of a ``MaskedLanguageHead`` whose sizes follow those of the tower. In training, the segments
    drawn to be corrupt are masked. Without ``relation``, each is read alone. With it (two classes: 0 follows, 1 does
    not), all content segments of a sample are read as one text, the first two exchanged in half of the samples. BERT
    itself took the second text of another document instead; texts in the wrong order (ALBERT, Lan et al. 2019,
    arXiv:1909.11942) need no other sample.
    """

    language: str

    def __init__(
        self,
        *,
        language: str,
        tower: TokenTower,
        masking: Masking,
        head: Spec,
        relation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.towers = nn.ModuleDict({language: tower})
        self.language, self.masking, self.relation = language, masking, relation
        vocabulary, width = tower.embedding.token.weight.shape
        self.head = head.replace(width=tower.width, vocabulary=vocabulary, embedding=width).build()

    @property
    def tower(self) -> TokenTower:
        """The one that reads words."""
        return cast(TokenTower, self.towers[self.language])

    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs:
        """The masked tokens of the batch, and with a ``relation`` head its pairs."""
        if embed_only:
            return Outputs({self.language: self.contrasted(self.language, batch)})
        stream = batch.streams[self.language]
        stream = stream.select(stream.corrupt if self.relation is None else stream.content)
        drawn = self.masking(stream, len(self._table))
        place = packing(stream.padding())
        owner = stream.owner.repeat_interleave(stream.lengths)
        tokens = [place.pack(stream.values), place.pack(drawn.masked), place.pack(drawn.shares()), owner]
        relations = {}
        if self.relation is None:
            rows = self.tower(drawn.ids, stream.lengths).rows
        else:
            texts = pairs(stream, place.pack(drawn.ids), self.tower.embedding.types)
            features = self.tower(texts.ids, texts.lengths, texts.types)
            rows, tokens = features.rows, [part[texts.index] for part in tokens]
            relations[self.language] = ClassPrediction(
                self.relation(features.pooled[texts.several]),
                texts.exchanged[texts.several].long(),
                texts.owner[texts.several],
            )
        truth, masked, share, owner = tokens
        found = TokenPrediction(
            self.head(rows[masked], self._table), truth[masked], owner[masked], share[masked].to(rows.dtype)
        )
        return Outputs(masked_tokens={self.language: found}, relations=relations)

    def logits(
        self,
        ids: Int[Tensor, "n t"],
        lengths: Int[Tensor, "n"],
        types: Int[Tensor, "n t"] | None = None,
        chosen: Bool[Tensor, "n t"] | None = None,
    ) -> Float[Tensor, "m v"]:
        """Logits at all real tokens, one text after the other, or at those ``chosen`` among them (the masked ones)."""
        rows = self.tower(ids, lengths, types).rows
        if chosen is not None:
            rows = rows[packing(real_tokens(ids, lengths)).pack(chosen)]
        return self.head(rows, self._table)

    def relations(
        self, ids: Int[Tensor, "n t"], lengths: Int[Tensor, "n"], types: Int[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "n classes"]:
        """Logits of how the two texts in each row relate. CapabilityError without a head for that."""
        if self.relation is None:
            raise CapabilityError("this network has no head for pairs of texts")
        return self.relation(self.tower(ids, lengths, types).pooled)

    @property
    def _table(self) -> Float[Tensor, "v e"]:
        return self.tower.embedding.token.weight
