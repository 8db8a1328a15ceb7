"""A vocabulary for patches that nobody has to learn. Legend: p values of a patch, w width of a code."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.product import linear
from ...core.random import uniform


class RandomCodes(nn.Module):
    """The number of the nearest of ``entries`` random vectors to a random projection of a patch (BEST-RQ, Chiu et al.
    2022, arXiv:2202.01855). Both are at length 1.

    Everything follows from ``seed``: there is nothing to learn and nothing to save.
    """

    def __init__(self, *, patch_width: int, entries: int, width: int = 16, seed: int = 0) -> None:
        super().__init__()
        # Made where they exist even if parameters are only described ("meta").
        seeds = torch.tensor([seed, seed + 1], device="cpu")
        projection, codes = (2 * uniform(seeds, width * max(patch_width, entries)) - 1).unbind()
        projection = projection[: width * patch_width].unflatten(0, (width, patch_width))
        codes = torch.erfinv(codes[: width * entries] + 2**-24).unflatten(0, (entries, width))
        self.register_buffer("projection", projection, persistent=False)
        self.register_buffer("codes", F.normalize(codes, dim=-1), persistent=False)

    @property
    def entries(self) -> int:
        """The size of the vocabulary."""
        return len(self.get_buffer("codes"))

    def forward(self, cut: Float[Tensor, "*m p"]) -> Int[Tensor, "*m"]:
        """One number for each patch."""
        projected = linear(cut, self.get_buffer("projection").to(cut.dtype))
        return linear(projected, self.get_buffer("codes").to(cut.dtype)).argmax(-1)
