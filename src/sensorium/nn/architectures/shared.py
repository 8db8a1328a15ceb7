"""One encoder for everything: whatever is compared goes through the same blocks.

Legend: n segments, t tokens of the longest, m real tokens in all, d width, e width of the common space.
"""

from __future__ import annotations

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...core.batch import Batch, Stream
from ...core.errors import ConfigError
from ...core.outputs import Outputs
from ..encoders.encoded import Encoder
from ..encoders.tower import Features
from ..heads.pooling import FirstToken
from ..heads.similarity import Similarity
from ..layers.masks import padding
from ..layers.packing import packing, real_places
from ..layers.transformer import Transformer
from .network import Network


class Shared(Network):
    """Light encoders make tokens of each modality; a learned token goes before those of each segment, and what one
    transformer makes of it stands for the segment. Inputs and targets alike are read so, and a task is the search for
    the most similar target (Uni-Perceiver, Zhu et al. 2021, arXiv:2112.01522).

    ``norm`` comes after the blocks. ``language`` names the encoder that reads words, if there is one: labels and
    prompts go through it. Raises ConfigError where the parts do not fit.
    """

    def __init__(
        self,
        *,
        encoders: dict[str, Encoder],
        trunk: Transformer,
        norm: nn.Module,
        similarity: Similarity,
        language: str | None = None,
    ) -> None:
        super().__init__()
        for name, encoder in encoders.items():
            if encoder.width != trunk.width:
                raise ConfigError(f"the {name} encoder has width {encoder.width}, the trunk {trunk.width}")
        if language is not None and language not in encoders:
            raise ConfigError(
                f"language names {language!r}, which is none of the encoders {sorted(encoders)}"
            )
        self.encoders = nn.ModuleDict(encoders)
        self.trunk, self.norm, self.similarity, self.language = trunk, norm, similarity, language
        self.special = nn.Parameter(torch.randn(trunk.width))
        self.select = FirstToken()

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
        found = {name: self.contrasted(name, batch) for name in self.encoders}
        return Outputs(embeddings=found, scale=self.scale, bias=self.bias)

    def read(self, name: str, stream: Stream) -> Features:
        """Features of the special token and all others of each segment; the first of them stands for it."""
        encoder, nothing = cast(Encoder, self.encoders[name]), torch.zeros_like(stream.corrupt)
        encoded = encoder(stream.values, stream.lengths, nothing, stream.seed)
        tokens, lengths = encoded.tokens, encoded.lengths + 1
        x = torch.cat([self.special.to(tokens.dtype).expand(len(tokens), 1, -1), tokens], dim=1)
        real = real_places(lengths, x.shape[1])
        place = packing(real)
        rows = self.norm(self.trunk(place.pack(x), place, padding(real)))
        return Features(rows, lengths, self.select(rows, lengths))
