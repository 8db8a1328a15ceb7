"""Attention within windows of a grid, which shift from layer to layer (Swin, Liu et al. 2021, arXiv:2103.14030).

Legend: m rows of all grids, n grids, y and x rows and columns of a grid, w side of a window, d width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from .cache import KVCache
from .masks import Mask, packed
from .packing import Packing, dense


class WindowAttention(nn.Module):
    """``attention`` within square windows of ``window`` x ``window`` places of each grid (``mask.grid``).

    The grid is filled with zeros to whole windows, which are tokens like others. With ``shift``, windows lie that
    many places further down and to the right; those that the border cuts are put together from pieces that
    do not see each other. A grid that one window covers along an axis is not shifted, unless ``shift_small``
    (detectors do).
    """

    def __init__(
        self, *, attention: nn.Module, window: int, shift: int = 0, shift_small: bool = False
    ) -> None:
        super().__init__()
        if not 0 <= shift < window:
            raise ConfigError(f"windows of {window} places cannot be shifted by {shift}")
        self.attention = attention
        self.window, self.shift, self.shift_small = window, shift, shift_small

    def forward(
        self, x_md: Float[Tensor, "m d"], packing: Packing, mask: Mask, cache: KVCache | None = None
    ) -> Float[Tensor, "m d"]:
        if mask.grid is None or len(mask.grid) != 2 or packing.index is not None or cache is not None:
            raise ConfigError(f"windows need tokens that all lie on a grid of two axes, found {mask.grid}")
        height, width = mask.grid
        side = self.window
        shift = self.shift if self.shift_small or min(mask.grid) > side else 0
        x_nyxd = x_md.unflatten(0, (packing.sequences, height, width))
        x_nyxd = F.pad(x_nyxd, (0, 0, 0, -width % side, 0, -height % side))
        grid = x_nyxd.shape[1], x_nyxd.shape[2]
        if shift:
            x_nyxd = x_nyxd.roll((-shift, -shift), (1, 2))
        windows = _cut(x_nyxd, side)
        inner = Mask(grid=(side, side))
        if shift:
            pieces = _cut(_pieces(grid, side, shift, x_md.device)[None, ..., None], side)[..., 0]
            inner = Mask(rule=packed(pieces.repeat(packing.sequences, 1)).rule, grid=inner.grid)
        rows = self.attention(windows.flatten(0, 1), dense(len(windows), side * side), inner)
        y_nyxd = _joined(rows.unflatten(0, windows.shape[:2]), grid, side)
        if shift:
            y_nyxd = y_nyxd.roll((shift, shift), (1, 2))
        return y_nyxd[:, :height, :width].flatten(0, 2)


def _cut(x_nyxd: Float[Tensor, "n y x d"], side: int) -> Float[Tensor, "windows t d"]:
    """Windows in reading order, the places of each in reading order."""
    x = x_nyxd.unflatten(2, (-1, side)).unflatten(1, (-1, side)).transpose(2, 3)
    return x.flatten(3, 4).flatten(0, 2)


def _joined(
    windows: Float[Tensor, "windows t d"], grid: tuple[int, int], side: int
) -> Float[Tensor, "n y x d"]:
    """The grids that were cut into windows."""
    x = windows.unflatten(1, (side, side)).unflatten(0, (-1, grid[0] // side, grid[1] // side))
    return x.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _pieces(grid: tuple[int, int], side: int, shift: int, device: torch.device) -> Int[Tensor, "y x"]:
    """Which piece each place of a shifted grid is of: only in the last row and column of windows is there another."""
    rows, columns = (
        (place >= n - side).long() + (place >= n - shift).long()
        for n in grid
        for place in [torch.arange(n, device=device)]
    )
    return 3 * rows[:, None] + columns
