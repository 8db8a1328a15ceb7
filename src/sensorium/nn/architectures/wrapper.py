"""A network around another: alike in use, different in training."""

from __future__ import annotations

import abc

from jaxtyping import Float
from torch import Tensor

from ...core.batch import Batch, Stream
from ...core.outputs import Embedding, Restoration
from ..encoders.tower import Features
from .network import Network


class Wrapper(Network):
    """Answers as ``inner`` does; only ``forward`` is its own."""

    @property
    @abc.abstractmethod
    def inner(self) -> Network: ...

    @property
    def scale(self) -> Float[Tensor, ""] | None:
        return self.inner.scale

    @property
    def bias(self) -> Float[Tensor, ""] | None:
        return self.inner.bias

    def read(self, name: str, stream: Stream) -> Features:
        return self.inner.read(name, stream)

    def embed(self, name: str, stream: Stream) -> Float[Tensor, "n e"]:
        return self.inner.embed(name, stream)

    def contrasted(self, name: str, batch: Batch) -> Embedding:
        return self.inner.contrasted(name, batch)

    def restore(self, name: str, batch: Batch) -> Restoration:
        return self.inner.restore(name, batch)
