"""Convolutional networks as towers: a token is a place of the last feature map."""

from __future__ import annotations

import abc

from jaxtyping import Float, Int
from torch import Tensor, nn

from .tower import Features, Tower, check_one_size


class ConvTower(Tower):
    """From values ``[n, h, w, c]`` of any size to one token per place of the last feature map, row by row, and their
    mean as the pooled vector. ``values`` comes first: it brings bytes to the range that the network expects (see
    ``Pixels``).

    Inside, maps are ``[n, c, h, w]`` whose channels lie side by side in memory, which is how the values come. In
    training, BatchNorm normalises by the statistics of the batch at hand.
    """

    def __init__(self, values: nn.Module | None) -> None:
        super().__init__()
        self.values = values if values is not None else nn.Identity()

    @abc.abstractmethod
    def maps(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        """The last feature map."""

    def forward(self, values: Float[Tensor, "n h w c"], lengths: Int[Tensor, "n"]) -> Features:
        check_one_size(values, lengths)
        found = self.maps(self.values(values).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        n, high, wide, width = found.shape
        counts = lengths.new_full((n,), high * wide)
        return Features(found.reshape(n * high * wide, width), counts, found.mean((1, 2)))
