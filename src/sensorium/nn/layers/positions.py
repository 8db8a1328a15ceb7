"""Positions that need no table: sine and cosine over grids of one, two or three axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def sin_cos(
    grid: Sequence[int], width: int, device: torch.device | None = None
) -> Float[Tensor, "tokens width"]:
    """Sine-cosine positions (Vaswani et al. 2017, arXiv:1706.03762) of a grid in row-major order.

    Each axis gets an equal share of the ``width`` channels; channels that cannot be shared stay zero.
    """
    pairs = width // (2 * len(grid))
    rates = torch.exp(torch.arange(pairs, device=device) * (-math.log(10_000.0) / max(pairs, 1)))
    places = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
    angles = [place.reshape(-1, 1) * rates for place in places]
    table = torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1)
    return torch.nn.functional.pad(table, (0, width - table.shape[1]))
