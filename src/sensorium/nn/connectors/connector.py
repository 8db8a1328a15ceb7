"""What every connector returns, and the interface it fulfils: features of a tower in, rows of a language model out."""

from __future__ import annotations

import abc
from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..encoders.tower import Features


@dataclass(frozen=True)
class Rows:
    """The ``m`` rows of ``n`` segments, one segment after the other, and how many each has."""

    rows: Float[Tensor, "m d"]
    lengths: Int[Tensor, "n"]


class Connector(nn.Module, abc.ABC):
    """From the features of segments to rows of ``width``, as many as the layout of a segment says.

    ``layout`` is what the number of a segment's pieces does not tell: see ``Stream.layout``. ``n`` may be 0.
    """

    width: int

    @abc.abstractmethod
    def forward(self, features: Features, layout: Int[Tensor, "n k"] | None = None) -> Rows: ...


def pieces(features: Features, tokens: int) -> Float[Tensor, "m t d"]:
    """The rows of all pieces (tiles, frames) of ``tokens`` each. Raises ConfigError for a part of a piece."""
    if bool((features.lengths % tokens).any()):
        raise ConfigError(
            f"this connector reads pieces of {tokens} tokens, found segments of "
            f"{sorted(set(features.lengths.tolist()))} tokens"
        )
    return features.rows.unflatten(0, (-1, tokens))
