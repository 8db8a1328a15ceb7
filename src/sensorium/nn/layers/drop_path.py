"""What stands between a layer and the stream it adds to: learned scales, and leaving the layer out at random."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .packing import Packing


class LayerScale(nn.Module):
    """One learned factor per channel (CaiT, Touvron et al. 2021, arXiv:2103.17239)."""

    def __init__(self, *, width: int, value: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), value))

    def forward(self, x: Float[Tensor, "*m d"]) -> Float[Tensor, "*m d"]:
        return x * self.weight


class Dropout(nn.Dropout):
    """Zeros single values at random in training (Srivastava et al. 2014)."""

    def __init__(self, *, rate: float) -> None:
        super().__init__(rate)


def drop_path(x: Float[Tensor, "m d"], packing: Packing, rate: float) -> Float[Tensor, "m d"]:
    """Zero the rows of whole sequences with probability ``rate``, and scale up the others (stochastic depth,
    Huang et al. 2016, arXiv:1603.09382).
    """
    kept = torch.empty(packing.sequences, device=x.device, dtype=x.dtype).bernoulli_(1 - rate) / (1 - rate)
    return x * kept[packing.owners(x.device)][:, None]
