"""Separate towers, one per modality, that meet only in a dot product: CLIP, SigLIP, ALIGN, ImageBind.

Legend: n segments, d width, e width of the common space.
"""

from __future__ import annotations

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor, nn

from ...core.batch import Batch, Stream
from ...core.errors import ConfigError
from ...core.outputs import Outputs
from ..encoders.tower import Tower
from ..heads.similarity import Similarity, Temperature
from .network import Network, unit


class Towers(Network):
    """Any number of towers, each with a projection into one space, and the similarity they share.

    ``language`` names the tower that reads words, if there is one: labels and prompts go through it. Raises
    ConfigError where a tower has no projection or a projection no tower.
    """

    def __init__(
        self,
        *,
        towers: Mapping[str, Tower],
        projections: Mapping[str, nn.Module],
        similarity: Similarity | Temperature,
        language: str | None = None,
    ) -> None:
        super().__init__()
        if unmatched := sorted(towers.keys() ^ projections.keys()):
            raise ConfigError(f"each tower needs one projection: {', '.join(unmatched)} has only one of both")
        if language is not None and language not in towers:
            raise ConfigError(f"language names {language!r}, which is none of the towers {sorted(towers)}")
        self.towers = nn.ModuleDict(towers)
        self.projections = nn.ModuleDict(projections)
        self.similarity, self.language = similarity, language

    @property
    def scale(self) -> Float[Tensor, ""]:
        """The inverse temperature."""
        return self.similarity.scale

    @property
    def bias(self) -> Float[Tensor, ""] | None:
        """What the sigmoid loss adds to scaled similarities."""
        return self.similarity.bias

    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs:
        """The embeddings of all content segments."""
        found = {name: self.contrasted(name, batch) for name in self.towers}
        return Outputs(embeddings=found, scale=self.scale, bias=self.bias)

    def embed(self, name: str, stream: Stream) -> Float[Tensor, "n e"]:
        """Unit-length vectors of all segments of one modality."""
        return unit(self.projections[name](self.read(name, stream).pooled))
