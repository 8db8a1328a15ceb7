"""Texts and segments of another modality, compared and matched by one Q-Former that reads both.

Legend: n segments, q queries, e width of the common space.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from ...core.batch import Batch, Stream
from ...core.errors import ConfigError
from ...core.outputs import Outputs
from ..connectors.qformer import QFormer
from ..encoders.tower import Features, Tower
from ..heads.pooling import FirstToken
from ..layers.linear import Linear
from .network import Network, unit


class QueriedRetrieval(Network):
    """What BLIP-2 is after its first stage (Li et al. 2023, arXiv:2301.12597).

    The one of ``towers`` reads segments, on which the queries of ``qformer`` look; it reads texts, the modality
    ``language``, alone or together with the queries. ``projections`` bring both into one space, where a segment has a
    vector for each query; ``head`` tells from each query whether a text fits (class 1) or not. It is used as it is:
    nothing here is trained. Raises ConfigError for parts that do not go together.
    """

    language: str

    def __init__(
        self,
        *,
        towers: Mapping[str, Tower],
        language: str,
        qformer: QFormer,
        projections: Mapping[str, nn.Module],
        head: Linear,
    ) -> None:
        super().__init__()
        if len(towers) != 1 or projections.keys() != {*towers, language} or qformer.words is None:
            raise ConfigError(
                "queries need one tower, words, and a projection for each of both: found towers "
                f"{sorted(towers)}, projections {sorted(projections)}, {'no ' * (qformer.words is None)}words"
            )
        self.towers, self.language, self.qformer = nn.ModuleDict(towers), language, qformer
        self.projections, self.head = nn.ModuleDict(projections), head
        self.first = FirstToken()

    @property
    def scale(self) -> Float[Tensor, ""]:
        """One: public checkpoints have lost the temperature that they were trained with."""
        return self.head.weight.new_ones(())

    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs:
        """Nothing is learnt."""
        return Outputs()

    def read(self, name: str, stream: Stream) -> Features:
        """Token features and a pooled vector of all segments of one modality, or of texts."""
        if name != self.language:
            return super().read(name, stream)
        rows = self.qformer.read(stream.values, stream.lengths)
        return Features(rows, stream.lengths, self.first(rows, stream.lengths))

    def embed(self, name: str, stream: Stream) -> Float[Tensor, "n *q e"]:
        """Unit-length vectors: one for each text, of a segment one for each query. What is near to any of them is
        near to the segment (see ``products``).
        """
        found = self.read(name, stream)
        rows = found.pooled if name == self.language else self.qformer(found)
        return unit(self.projections[name](rows))

    def match(self, name: str, segments: Stream, texts: Stream) -> Float[Tensor, "n 2"]:
        """Logits of each segment and the text at the same place: that the text does not fit, and that it does."""
        queries = self.qformer(self.read(name, segments), texts.values, texts.lengths)
        return self.head(queries).mean(1)
