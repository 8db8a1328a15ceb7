"""The encoder of what comes as vectors already: states of a robot, measurements, one token for each."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from ...core.errors import ConfigError
from ..heads.pooling import MeanToken
from ..layers.activations import activation as by_name
from ..layers.linear import Linear
from ..layers.packing import real_places
from .tower import Features, Tower


class Vectors(Tower):
    """One hidden layer over each vector of ``channels`` numbers: a token of ``width``. With a linear projector behind
    it, the state encoder of PaLM-E (Driess et al. 2023, arXiv:2303.03378).

    The vector of a segment is the mean of its tokens. Raises ConfigError for vectors of another size.
    """

    def __init__(self, *, channels: int, width: int, activation: str = "gelu") -> None:
        super().__init__()
        self.channels, self.width, self.pooled_width = channels, width, width
        self.project = Linear(channels, width)
        self.activation, self.pool = by_name(activation), MeanToken()

    def forward(self, values: Float[Tensor, "n t c"], lengths: Int[Tensor, "n"]) -> Features:
        if values.shape[-1] != self.channels:
            raise ConfigError(f"expected vectors of {self.channels} numbers, found {values.shape[-1]}")
        rows = self.activation(self.project(values[real_places(lengths, values.shape[1])]))
        return Features(rows, lengths, self.pool(rows, lengths))
