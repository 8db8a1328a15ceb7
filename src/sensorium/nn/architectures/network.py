"""What a user's model asks of any network: to read segments, and to make vectors of them."""

from __future__ import annotations

import abc
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...core.batch import Batch, Stream
from ...core.errors import CapabilityError
from ...core.outputs import Embedding, Outputs, Restoration
from ..encoders.tower import Features, LaidTower, Tower


class Network(nn.Module, abc.ABC):
    """The root of every model. ``towers`` read one modality each; ``language`` names the one that reads words, if any.

    ``forward`` names everything that the objectives of training need; ``embed_only`` asks for embeddings alone.
    """

    towers: nn.ModuleDict
    language: str | None = None

    @property
    def scale(self) -> Float[Tensor, ""] | None:
        """The inverse temperature of similarities; None where vectors are not trained to be compared."""
        return None

    @property
    def bias(self) -> Float[Tensor, ""] | None:
        """What is added to scaled similarities to give the logit of a match; None where only their order counts."""
        return None

    @abc.abstractmethod
    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs: ...

    def read(self, name: str, stream: Stream) -> Features:
        """Token features and a pooled vector of all segments of one modality; CapabilityError without its tower."""
        if name not in self.towers:
            raise CapabilityError(
                f"this network has no tower that reads {name}, only {', '.join(self.towers)}"
            )
        tower = cast(Tower, self.towers[name])
        laid = (stream.layout,) if isinstance(tower, LaidTower) else ()
        return tower(stream.values, stream.lengths, *laid)

    def embed(self, name: str, stream: Stream) -> Float[Tensor, "n e"]:
        """Unit-length vectors of all segments of one modality."""
        return unit(self.read(name, stream).pooled)

    def contrasted(self, name: str, batch: Batch) -> Embedding:
        """The vectors of the content segments of one modality, and the samples that they stand for."""
        stream = batch.streams[name]
        if not bool(stream.content.all()):
            stream = stream.select(stream.content)
        return Embedding(self.embed(name, stream), stream.owner)

    def restore(self, name: str, batch: Batch) -> Restoration:
        """What the network makes of segments of one modality of which it sees a part, drawn from their seeds.

        CapabilityError where it predicts no values of that modality.
        """
        raise CapabilityError(f"this network restores no hidden parts of {name}")


def unit(vectors: Float[Tensor, "n e"]) -> Float[Tensor, "n e"]:
    """At length 1, in single precision at least."""
    return F.normalize(vectors.to(torch.promote_types(vectors.dtype, torch.float32)), dim=-1)
