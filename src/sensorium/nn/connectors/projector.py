"""Token features, row by row, to the width of a language model."""

from __future__ import annotations

from itertools import pairwise

from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..encoders.tower import Features
from ..layers.activations import activation as by_name
from ..layers.linear import Linear
from .connector import Connector, Rows


class Projector(Connector):
    """``depth`` linear maps with a nonlinearity between them, of rows of width ``inner``: one in LLaVA (Liu et al.
    2023, arXiv:2304.08485) and PaliGemma, two in LLaVA 1.5 (Liu et al. 2023, arXiv:2310.03744).

    What is between two maps has width ``hidden``, by default ``width``. ``norm`` comes first, ``norm_out`` last.
    """

    def __init__(
        self,
        *,
        inner: int,
        width: int,
        depth: int = 1,
        hidden: int | None = None,
        activation: str = "gelu",
        bias: bool = True,
        norm: nn.Module | None = None,
        norm_out: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if depth < 1:
            raise ConfigError(f"a projector needs a depth of at least 1, found {depth}")
        self.width = width
        self.norm = norm if norm is not None else nn.Identity()
        self.norm_out = norm_out if norm_out is not None else nn.Identity()
        widths = [inner, *[width if hidden is None else hidden] * (depth - 1), width]
        self.layers = nn.ModuleList(Linear(before, after, bias=bias) for before, after in pairwise(widths))
        self.activation = by_name(activation)

    def forward(self, features: Features, layout: Int[Tensor, "n k"] | None = None) -> Rows:
        return Rows(self.project(features.rows), features.lengths)

    def project(self, x: Float[Tensor, "*m e"]) -> Float[Tensor, "*m d"]:
        """The rows of the language model for rows of features."""
        x = self.layers[0](self.norm(x))
        for layer in self.layers[1:]:
            x = layer(self.activation(x))
        return self.norm_out(x)
