"""Neighbouring tokens averaged, so that there are fewer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Int
from torch import Tensor

from ..encoders.tower import Features
from .connector import Connector, Rows, pieces
from .unshuffled import check_grid


class Pooled(Connector):
    """The mean of each square of ``kernel`` times ``kernel`` tokens, then ``projector`` (Gemma 3, arXiv:2503.19786).

    A segment is one or more tiles, each a ``grid`` of tokens. Raises ConfigError for a grid that the kernel does not
    divide.
    """

    def __init__(self, *, grid: Sequence[int], kernel: int, projector: Connector) -> None:
        super().__init__()
        check_grid(grid, kernel)
        self.grid, self.kernel, self.projector = tuple(grid), kernel, projector
        self.width = projector.width

    def forward(self, features: Features, layout: Int[Tensor, "n k"] | None = None) -> Rows:
        rows, columns = (side // self.kernel for side in self.grid)
        x = pieces(features, math.prod(self.grid))
        means = x.unflatten(1, (rows, self.kernel, columns, self.kernel)).mean((2, 4)).flatten(0, 2)
        return self.projector(
            replace(features, rows=means, lengths=features.lengths // self.kernel**2), layout
        )
