"""Features that are the rows already."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from ..encoders.tower import Features
from .connector import Connector, Rows


class Unchanged(Connector):
    """Tokens as they are, of the ``width`` that is asked for: of a tower that was made for the language model, or
    that is looked at without anything between.
    """

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: Features, layout: Int[Tensor, "n k"] | None = None) -> Rows:
        return Rows(features.rows, features.lengths)
