"""Learning from recordings alone: hidden frames are told from others of the same recording by their codes.

Legend: n segments, m hidden frames in all, k distractors, e width in which they are compared.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...core.batch import Batch
from ...core.errors import ConfigError
from ...core.outputs import CodePrediction, Outputs
from ...core.random import seed_of, uniform
from ..encoders.spec_augment import SpecAugment
from ..encoders.wave_tower import WaveTower
from ..heads.quantiser import GumbelQuantiser
from ..layers.linear import Linear
from ..layers.packing import ragged_positions
from .network import Network

_DISTRACTORS = seed_of("distractors")


class SpeechPretraining(Network):
    """wav2vec 2.0 in pre-training (Baevski et al. 2020, arXiv:2006.11477).

    Of the segments that are to be ``corrupt``, spans of frames are hidden. What the tower makes of a hidden frame
    is compared with the code of what stood there and with those of ``distractors`` other hidden frames of the segment,
    in a space of width ``embedding``; all is drawn from the segment's seed. ``dropout`` comes before the quantiser.
    Raises ConfigError for a tower that cannot hide frames.
    """

    def __init__(
        self,
        *,
        name: str,
        tower: WaveTower,
        quantiser: GumbelQuantiser,
        embedding: int,
        distractors: int = 100,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if tower.augment is None or not tower.augment.active:
            raise ConfigError("speech is learnt from hidden frames: the tower needs an active augment")
        self.name, self.towers = name, nn.ModuleDict({name: tower})
        self.quantiser, self.distractors = quantiser, distractors
        self.dropout = nn.Dropout(dropout)
        self.project_context = Linear(tower.width, embedding)
        self.project_codes = Linear(quantiser.width, embedding)

    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs:
        """Predictions for the hidden frames of the segments that are to be corrupt."""
        if embed_only:
            return Outputs({self.name: self.contrasted(self.name, batch)})
        stream = batch.streams[self.name]
        stream = stream.select(stream.corrupt)
        local, frames = self._tower.local(stream.values, stream.lengths)
        masked = cast(SpecAugment, self._tower.augment).masked(stream.seed, frames)
        others = distractors(stream.seed, masked.sum(1), self.distractors)
        return Outputs(codes=self.predict(local, frames, masked, others, stream.seed))

    def predict(
        self,
        local: Float[Tensor, "f c"],
        frames: Int[Tensor, "n"],
        masked: Bool[Tensor, "n t"],
        others: Int[Tensor, "m k"],
        seed: Int[Tensor, "n"] | None = None,
    ) -> CodePrediction:
        """What is made of the ``masked`` frames, what stood there, and ``others`` to compare with (see
        ``distractors``). Each segment weighs 1.
        """
        real = torch.arange(masked.shape[1], device=masked.device) < frames[:, None]
        hidden = masked[real]
        context = self._tower.context(local, frames, hidden, seed).rows[hidden]
        codes = self.quantiser(self.dropout(local)[hidden])
        lengths = masked.sum(1)
        return CodePrediction(
            predicted=self.project_context(context),
            codes=self.project_codes(codes.vectors),
            chosen=codes.chosen,
            shares=codes.shares,
            lengths=lengths,
            distractors=others,
            weight=(1 / lengths.clamp(min=1).to(codes.shares.dtype)).repeat_interleave(lengths),
        )

    @property
    def _tower(self) -> WaveTower:
        return cast(WaveTower, self.towers[self.name])


def distractors(seed: Int[Tensor, "n"], lengths: Int[Tensor, "n"], count: int) -> Int[Tensor, "m k"]:
    """For each of the ``lengths`` hidden frames of each segment, ``count`` others of them, by their place among them;
    -1 where there is no other.
    """
    longest = int(lengths.max()) if len(lengths) else 0
    segment = torch.arange(len(lengths), device=seed.device).repeat_interleave(lengths)
    place, others = ragged_positions(lengths)[:, None], (lengths - 1)[segment][:, None]
    drawn = uniform(seed ^ _DISTRACTORS, longest * count).unflatten(1, (longest, count))[segment, place[:, 0]]
    found = torch.minimum((drawn * others).long(), others - 1)  # rounding may reach the bound
    return torch.where(others > 0, found + (found >= place), -1)
