"""Several rows of a language model from each feature of an encoder."""

from __future__ import annotations

from jaxtyping import Int
from torch import Tensor

from ...core.errors import ConfigError
from ..encoders.tower import Features
from .connector import Connector, Rows


class Several(Connector):
    """What ``projector`` makes of each token, cut into ``rows`` one after the other: where one vector tells more than
    one word can (PaLM-E, Driess et al. 2023, arXiv:2303.03378). Raises ConfigError where it cannot be cut equally.
    """

    def __init__(self, *, projector: Connector, rows: int) -> None:
        super().__init__()
        if rows < 1 or projector.width % rows:
            raise ConfigError(f"rows of width {projector.width} cannot be cut into {rows} equal ones")
        self.projector, self.rows, self.width = projector, rows, projector.width // rows

    def forward(self, features: Features, layout: Int[Tensor, "n k"] | None = None) -> Rows:
        made = self.projector(features, layout)
        return Rows(made.rows.unflatten(1, (self.rows, self.width)).flatten(0, 1), made.lengths * self.rows)
