"""The features of a tower as they are, for a language model that looks at them through layers of its own."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from ..encoders.tower import Features
from .connector import Connector, Rows


class Untouched(Connector):
    """Gives on what a tower of this ``width`` makes of segments."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: Features, layout: Int[Tensor, "n k"] | None = None) -> Rows:
        return Rows(features.rows, features.lengths)
