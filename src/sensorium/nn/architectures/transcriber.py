"""Words from recordings without an alignment: each frame votes for a token or for none.

Legend: n segments, m frames in all, v tokens of the vocabulary.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.batch import Batch, Stream
from ...core.errors import ConfigError
from ...core.outputs import Outputs, Transcription
from ..encoders.wave_tower import WaveTower
from ..layers.packing import packing
from .network import Network


class Transcriber(Network):
    """A tower for the modality ``name`` and a head over its frames, for CTC (Graves et al. 2006). ``transcripts`` names
    the modality of what is said; ``blank`` is the token of a frame that says nothing.
    """

    def __init__(
        self, *, name: str, tower: WaveTower, head: nn.Module, transcripts: str, blank: int = 0
    ) -> None:
        super().__init__()
        if transcripts == name:
            raise ConfigError(f"a transcriber needs two modalities, found {name!r} for both")
        self.towers, self.head = nn.ModuleDict({name: tower}), head
        self.name, self.transcripts, self.blank = name, transcripts, blank

    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs:
        """The recordings that have a transcript, each with its own: the first with the first of a sample's turn."""
        if embed_only:
            return Outputs({self.name: self.contrasted(self.name, batch)})
        sound, words = batch.streams[self.name], batch.streams[self.transcripts]
        sound, words = _paired(sound, words.select(words.target))
        logits, lengths = self.logits(sound)
        return Outputs(
            transcription=Transcription(
                logits=logits,
                lengths=lengths,
                target=packing(words.padding()).pack(words.values),
                target_lengths=words.lengths,
                blank=self.blank,
            )
        )

    def logits(self, stream: Stream) -> tuple[Float[Tensor, "m v"], Int[Tensor, "n"]]:
        """The logits of all frames of each segment, one segment after the other, and how many each has."""
        found = self.towers[self.name](stream.values, stream.lengths, stream.seed)
        return self.head(found.rows), found.lengths


def _paired(first: Stream, second: Stream) -> tuple[Stream, Stream]:
    """The segments of two modalities that belong together, matched."""
    same = first.owner[:, None] == second.owner
    for a, b in ((first.turn, second.turn), (first.ordinal, second.ordinal)):
        same = same & (a[:, None] == b)
    rows, columns = same.nonzero(as_tuple=True)
    return first.select(rows), second.select(columns)
