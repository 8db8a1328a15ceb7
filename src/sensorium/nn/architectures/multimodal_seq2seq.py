"""An encoder-decoder language model that reads other media among its words, and writes answers.

Legend: b sequences, t tokens of the longest, r answers in all, m packed rows, d width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ...core.batch import Batch
from ...core.errors import DataError
from ...core.outputs import Outputs
from ..connectors.connector import Connector, Rows
from ..decoders.places import apart
from ..decoders.seq2seq import Seq2Seq
from ..decoders.writing import Writing
from ..encoders.tower import Tower
from ..layers.masks import causal
from ..layers.packing import dense, packing, ragged_positions, real_places
from .multimodal_lm import MultimodalLM, Spliced


class MultimodalSeq2Seq(MultimodalLM):
    """As a ``MultimodalLM``, but the words before an answer, with media in their places, are read by the encoder of
    ``decoder`` as a whole, and the answer is written by the other stack (BLIP-2 with Flan-T5, Li et al. 2023,
    arXiv:2301.12597; PaLI, Chen et al. 2022, arXiv:2209.06794). Without towers it is T5.

    Each answer of a conversation is learnt by itself, from all that comes before it.
    """

    decoder: Seq2Seq

    def __init__(
        self,
        *,
        language: str,
        decoder: Seq2Seq,
        towers: Mapping[str, Tower] | None = None,
        connectors: Mapping[str, Connector] | None = None,
        placeholders: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(
            language=language,
            decoder=decoder,
            towers=towers,
            connectors=connectors,
            placeholders=placeholders,
        )

    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs:
        """The prediction of every token that is learnt."""
        if embed_only:
            return Outputs()
        found = self.splice(batch, self.media(batch))
        known = found.sequences
        learnt = self._learnt(known)
        row, begin, lengths = _answers(learnt)
        if not bool(begin.all()):
            key = batch.keys[int(known.owner[row[begin == 0][0]])]
            raise DataError("its answer has nothing before it that could be read", key=key)
        features = self._written(found, row, begin, known.ids[learnt], lengths)
        words, preferences = self._predicted(known, learnt, features)
        return Outputs(language=words, preferences=preferences)

    def splice(self, batch: Batch, media: Mapping[str, Rows]) -> Spliced:
        """As that of ``MultimodalLM``, with each branch as a sequence of its own."""
        found = super().splice(batch, media)
        if found.sequences.branch is None:
            return found
        chosen, known = apart(found.sequences)
        return Spliced(found.rows[chosen], packing(known.real), known)

    def begin(
        self,
        batch: Batch,
        room: int = 0,
        media: Mapping[str, Rows] | None = None,
        past: Writing | None = None,
    ) -> Writing:
        """Read a batch of prompts; ``room`` is how many tokens may follow.

        ``media`` are rows that are known already. Nothing of ``past`` can be used again: what follows a token changes
        how it is read.
        """
        found = self.splice(batch, self.media(batch) if media is None else media)
        caches = self.decoder.memories(found.rows, found.packing, found.sequences.real, room=1 + room)
        count = len(found.sequences.lengths)
        first = torch.full_like(found.sequences.lengths, self.decoder.start)
        rows = self.decoder.embedding(first)
        features = self.decoder(rows, dense(count, 1), causal(), caches=caches)
        history = [[self.decoder.start] for _ in range(count)]
        logits = self.decoder.logits(features)
        return Writing(self.decoder, caches, torch.ones_like(first), logits, history, rows)

    def _written(self, found: Spliced, row: Tensor, begin: Tensor, target: Tensor, lengths: Tensor) -> Tensor:
        """The features from which each token of the answers is predicted; sequence ``row`` is read up to ``begin``."""
        known = found.sequences.lengths
        offset = (known.cumsum(0) - known)[row]
        read = found.rows[offset.repeat_interleave(begin) + ragged_positions(begin)]
        before = real_places(begin, int(begin.max()) if len(begin) else 0)
        after = real_places(lengths, int(lengths.max()) if len(lengths) else 0)
        memories = self.decoder.memories(read, packing(before), before, writes=after.shape[1])
        shifted = target.roll(1)
        shifted[lengths.cumsum(0) - lengths] = self.decoder.start
        rows = self.decoder.embedding(shifted)
        return self.decoder(rows, packing(after), causal(), caches=memories)


def _answers(learnt: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The stretches of tokens that are learnt: in which sequence each is, where it begins, and how long it is."""
    before = torch.zeros_like(learnt)
    before[:, 1:] = learnt[:, :-1]
    row, begin = (learnt & ~before).nonzero(as_tuple=True)
    after = torch.zeros_like(learnt)
    after[:, :-1] = learnt[:, 1:]
    end = (learnt & ~after).nonzero(as_tuple=True)[1]
    return row, begin, end - begin + 1
