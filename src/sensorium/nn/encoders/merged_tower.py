"""The vision transformer over pictures and clips each in a grid of its own, whose patches come square by square.

Legend: n segments, t patches of the longest, m real patches in all, b numbers of a patch, w windows or frames, d width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..heads.pooling import Pooling
from ..layers.linear import Linear
from ..layers.masks import Mask, padding
from ..layers.packing import Packing, dense, packing, ragged_positions, real_places
from ..layers.transformer import Transformer
from .tower import Features, LaidTower


class PatchEmbedding(nn.Module):
    """One linear map of each patch: ``frames`` frames of ``patch`` x ``patch`` values with ``channels``, channels last.

    ``values`` comes first: it brings bytes to the range that the network expects (see ``Pixels``).
    """

    def __init__(
        self, *, patch: int, frames: int, channels: int, width: int, values: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.patch, self.frames, self.channels, self.width = patch, frames, channels, width
        self.values = values if values is not None else nn.Identity()
        self.project = Linear(frames * patch * patch * channels, width, bias=False)

    def forward(self, patches: UInt8[Tensor, "m b"] | Float[Tensor, "m b"]) -> Float[Tensor, "m d"]:
        return self.project(self.values(patches.unflatten(1, (-1, self.channels))).flatten(1))


class MergedTower(LaidTower):
    """Patches that see those of their own frame, turned by their rows and columns (the tower of Qwen2-VL, Wang et al.
    2024, arXiv:2409.12191).

    Values are [n, t, b] in squares of ``merge`` x ``merge`` patches, the layout is time, rows and columns (see
    ``modalities.merged_patches``); a fourth number is not read. With a ``window``, blocks other than ``whole`` keep to
    windows of that many patches on a side (Qwen2.5-VL, Bai et al. 2025, arXiv:2502.13923). Token features come in the
    order of the values. Raises ConfigError for windows that cut squares, and for segments that are not as their layout
    says.
    """

    def __init__(
        self,
        *,
        embedding: PatchEmbedding,
        trunk: Transformer,
        pool: Pooling,
        merge: int = 2,
        window: int | None = None,
        whole: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if merge < 1 or (window is not None and (window < 1 or window % merge)):
            raise ConfigError(f"windows of {window} patches cannot be made of squares of {merge} x {merge}")
        self.embedding, self.trunk, self.pool = embedding, trunk, pool
        self.merge, self.window, self.whole = merge, window, frozenset(whole)
        self.width, self.pooled_width = trunk.width, pool.width

    def forward(
        self,
        values: UInt8[Tensor, "n t b"],
        lengths: Int[Tensor, "n"],
        layout: Int[Tensor, "n k"] | None = None,
    ) -> Features:
        grid = self._grid(lengths, layout)
        x = self.embedding(packing(real_places(lengths, values.shape[1])).pack(values))
        places, windows = self._places(lengths, grid)
        frames = (grid[:, 1] * grid[:, 2]).repeat_interleave(grid[:, 0])
        if self.window is None:
            x = self.trunk(x, *_frames(frames, places))
        else:
            order = windows.argsort(stable=True)
            sizes = windows[order].unique_consecutive(return_counts=True)[1]
            # Windows do not leave their frame, so that frames stay whole in this order.
            within, all_over = _windows(sizes, places[order]), _frames(frames, places[order])
            x = x[order]
            for index in range(self.trunk.depth):
                place, mask = all_over if index in self.whole else within
                x = self.trunk(x, place, mask, start=index, stop=index + 1)
            x = torch.empty_like(x).index_copy(0, order, x)
        return Features(x, lengths, self.pool(x, lengths))

    def _grid(self, lengths: Int[Tensor, "n"], layout: Int[Tensor, "n k"] | None) -> Int[Tensor, "n 3"]:
        """Time, rows and columns of each segment."""
        if layout is None and not len(lengths):
            return lengths.new_zeros(0, 3)
        if layout is None or layout.shape[1] < 3:
            raise ConfigError("these segments need a layout of time, rows and columns of patches, found none")
        grid = layout[:, :3]
        if bool((grid.prod(1) != lengths).any() or (grid[:, 1:] % self.merge).any()):
            raise ConfigError(
                f"rows and columns must be multiples of {self.merge} and the product with time the number of "
                f"patches, found the layouts {grid.tolist()} of {lengths.tolist()} patches"
            )
        return grid

    def _places(
        self, lengths: Int[Tensor, "n"], grid: Int[Tensor, "n 3"]
    ) -> tuple[Int[Tensor, "m 2"], Int[Tensor, "m"]]:
        """The row and column of each patch in its frame, and the number of its window, counted over all segments."""
        segment = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
        rows, columns = (grid[:, 1:] // self.merge).unbind(1)  # of squares
        patch = ragged_positions(lengths)
        square, within = patch // self.merge**2, patch % self.merge**2
        frame, square = square // (rows * columns)[segment], square % (rows * columns)[segment]
        row, column = square // columns[segment], square % columns[segment]
        places = torch.stack(
            [row * self.merge + within // self.merge, column * self.merge + within % self.merge], dim=1
        )
        side = 1 if self.window is None else self.window // self.merge
        across = -(-columns // side)
        of_frame = -(-rows // side) * across
        many = of_frame * grid[:, 0]
        first = (many.cumsum(0) - many)[segment] + frame * of_frame[segment]
        return places, first + row // side * across[segment] + column // side


def _frames(sizes: Int[Tensor, "w"], places: Int[Tensor, "m 2"]) -> tuple[Packing, Mask]:
    """Attention within each of so many consecutive patches, which may be few or many."""
    if not len(sizes) or bool((sizes == sizes[0]).all()):
        return _windows(sizes, places)
    return dense(1, len(places)), Mask(positions=places[None], parts=tuple(sizes.tolist()))


def _windows(sizes: Int[Tensor, "w"], places: Int[Tensor, "m 2"]) -> tuple[Packing, Mask]:
    """Attention within each of so many consecutive patches, which are about as many."""
    real = real_places(sizes, int(sizes.max()) if len(sizes) else 1)
    place = packing(real)
    return place, replace(padding(real), positions=place.pad(places))
