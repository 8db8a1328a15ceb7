"""What every tower returns, and the interface it fulfils: prepared values of one modality in, features out."""

from __future__ import annotations

import abc
from dataclasses import dataclass

from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from ...core.errors import ConfigError


@dataclass(frozen=True)
class Features:
    """What a tower makes of ``n`` segments: the features of their ``m`` real tokens, one segment after the
    other, how many each has, and one vector per segment.
    """

    rows: Float[Tensor, "m d"]
    lengths: Int[Tensor, "n"]
    pooled: Float[Tensor, "n p"]

    def segments(self) -> list[Float[Tensor, "t d"]]:
        """The token features of each segment."""
        return list(self.rows.split(self.lengths.tolist()))


class Tower(nn.Module, abc.ABC):
    """An encoder that stands alone: from prepared values, channels last, to token features and a pooled vector.

    ``width`` is the size of a token's features, ``pooled_width`` that of the pooled vector. ``n`` may be 0.
    """

    width: int
    pooled_width: int

    @abc.abstractmethod
    def forward(self, values: Tensor, lengths: Int[Tensor, "n"]) -> Features: ...


class LaidTower(Tower):
    """A tower that needs to know how the pieces of a segment lie: see ``Stream.layout``; None where there are none."""

    @abc.abstractmethod
    def forward(
        self, values: Tensor, lengths: Int[Tensor, "n"], layout: Int[Tensor, "n k"] | None = None
    ) -> Features: ...


def check_one_size(values: Shaped[Tensor, "n t ..."], lengths: Int[Tensor, "n"]) -> None:
    """Raise ConfigError for segments that are filled up, where what fills them would be read like the rest."""
    if bool((lengths != values.shape[1]).any()):
        raise ConfigError(
            f"this tower reads segments of one size: found {int(lengths.min())} to {int(lengths.max())} along "
            "the first axis: prepare them to one size, or give one at a time"
        )
