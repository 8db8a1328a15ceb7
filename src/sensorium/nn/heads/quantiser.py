"""From vectors to entries of learned code books."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..layers.linear import Linear


@dataclass(frozen=True)
class Quantised:
    """The codes of ``m`` vectors: what stands at the ``chosen`` entries of all books, side by side.

    ``shares`` is how likely each entry was: in use, 1 for the chosen one.
    """

    vectors: Float[Tensor, "m e"]
    chosen: Int[Tensor, "m books"]
    shares: Float[Tensor, "m books entries"]


class GumbelQuantiser(nn.Module):
    """One of ``entries`` codes from each of ``books`` (Gumbel softmax, Jang et al. 2016, arXiv:1611.01144; wav2vec 2.0,
    arXiv:2006.11477).

    In training an entry is drawn by its probability, in use the likeliest is taken; the gradient is that of the soft
    choice at ``temperature``, which stays as it is here (the paper lowers it from 2 to 0.5). ``code_width`` is the
    width of the codes of all books side by side.
    """

    def __init__(
        self, *, width: int, books: int, entries: int, code_width: int, temperature: float = 2.0
    ) -> None:
        super().__init__()
        if code_width % books:
            raise ConfigError(f"codes of width {code_width} cannot be split over {books} books equally")
        self.books, self.entries, self.width = books, entries, code_width
        self.temperature = temperature
        self.choose = Linear(width, books * entries)
        self.codes = nn.Parameter(torch.rand(books, entries, code_width // books))
        nn.init.normal_(self.choose.weight)
        nn.init.zeros_(self.choose.bias)

    def forward(self, x: Float[Tensor, "m d"]) -> Quantised:
        logits = self.choose(x).unflatten(-1, (self.books, self.entries))
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        drawn = logits - torch.empty_like(logits).exponential_().log() if self.training else logits
        soft = (drawn / self.temperature).softmax(-1)
        chosen = soft.argmax(-1)
        hard = F.one_hot(chosen, self.entries) + (soft - soft.detach())
        shares = logits.softmax(-1) if self.training else hard
        vectors = torch.einsum("mbe,bec->mbc", hard.to(self.codes.dtype), self.codes)
        return Quantised(vectors.flatten(1), chosen, shares)
