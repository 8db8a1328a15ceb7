"""The transformer over raw samples: convolutions make frames, a transformer reads them in context.

Legend: n segments, s samples, m real frames in all, c channels of the stem, d width.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...core.errors import DataError
from ...core.random import seed_of, uniform
from ..heads.pooling import Pooling
from ..layers.convolved_positions import ConvolvedPositions
from ..layers.linear import Linear
from ..layers.masks import padding
from ..layers.packing import Packing, packing
from ..layers.transformer import Transformer
from .spec_augment import SpecAugment
from .tower import Features, Tower
from .wave_stem import WaveStem

_LAYERS = seed_of("layers left out")


class WaveTower(Tower):
    """Samples ``[n, s, 1]`` to frames in context (wav2vec 2.0, Baevski et al. 2020, arXiv:2006.11477).

    A segment's features are the same alone and in any batch: padding is neither computed in the transformer nor seen
    by any norm. The reference behaves so where every convolution has a LayerNorm; with one GroupNorm it takes its
    statistics over padding too (see ``SegmentNorm``), and agrees with this tower for segments of equal length.

    ``norm_in`` and ``norm_out`` normalise before and after the blocks, if at all: the one with post-norm blocks, the
    other with pre-norm ones. ``eps`` is that of the norm of the stem's frames. In training ``augment`` hides spans
    and ``layer_drop`` is the share of blocks that a segment skips (Fan et al. 2019, arXiv:1909.11556), both drawn
    from the segments' seeds; ``dropout_frames`` follows the projection of the frames, ``dropout`` precedes the blocks.
    """

    def __init__(
        self,
        *,
        stem: WaveStem,
        positions: ConvolvedPositions,
        trunk: Transformer,
        pool: Pooling,
        norm_in: nn.Module | None = None,
        norm_out: nn.Module | None = None,
        augment: SpecAugment | None = None,
        eps: float = 1e-5,
        dropout_frames: float = 0.0,
        dropout: float = 0.0,
        layer_drop: float = 0.0,
    ) -> None:
        super().__init__()
        self.stem, self.positions, self.trunk, self.pool, self.augment = stem, positions, trunk, pool, augment
        self.norm_stem = nn.LayerNorm(stem.width, eps=eps)
        self.project = Linear(stem.width, trunk.width)
        self.norm_in = norm_in if norm_in is not None else nn.Identity()
        self.norm_out = norm_out if norm_out is not None else nn.Identity()
        self.dropout_frames, self.dropout = nn.Dropout(dropout_frames), nn.Dropout(dropout)
        self.layer_drop = layer_drop
        self.width, self.pooled_width = trunk.width, pool.width

    def forward(
        self, values: Float[Tensor, "n s 1"], lengths: Int[Tensor, "n"], seed: Int[Tensor, "n"] | None = None
    ) -> Features:
        """Without ``seed`` nothing is hidden. Raises DataError for a segment shorter than one frame."""
        local, frames = self.local(values, lengths)
        hidden = None
        if self.training and seed is not None and self.augment is not None and self.augment.active:
            hidden = _places(frames).pack(self.augment.masked(seed, frames))
        return self.context(local, frames, hidden, seed)

    def local(
        self, values: Float[Tensor, "n s 1"], lengths: Int[Tensor, "n"]
    ) -> tuple[Float[Tensor, "m c"], Int[Tensor, "n"]]:
        """The normalised frames of the stem, one segment after the other, and how many each has."""
        if bool((lengths < self.stem.field).any()):
            raise DataError(
                f"a recording of {int(lengths.min())} samples is shorter than the {self.stem.field} of one frame"
            )
        x, frames = self.stem(values, lengths)
        return self.norm_stem(_places(frames).pack(x[:, : _longest(frames)])), frames

    def context(
        self,
        local: Float[Tensor, "m c"],
        frames: Int[Tensor, "n"],
        hidden: Bool[Tensor, "m"] | None = None,
        seed: Int[Tensor, "n"] | None = None,
    ) -> Features:
        """The frames in context, those ``hidden`` seen by nobody."""
        place = _places(frames)
        x = self.dropout_frames(self.project(local))
        if self.augment is not None:
            x = self.augment.hide(
                x, torch.zeros(len(x), dtype=torch.bool, device=x.device) if hidden is None else hidden
            )
            if self.training and seed is not None and self.augment.active:
                x = self.augment.blank(x, seed, place.owners(x.device))
        x = x + place.pack(self.positions(place.pad(x)))
        x = self._blocks(self.dropout(self.norm_in(x)), place, frames, seed)
        rows = self.norm_out(x)
        return Features(rows, frames, self.pool(rows, frames))

    def _blocks(
        self, x: Float[Tensor, "m d"], place: Packing, frames: Int[Tensor, "n"], seed: Int[Tensor, "n"] | None
    ) -> Float[Tensor, "m d"]:
        mask = padding(_real(frames))
        if not self.training or self.layer_drop == 0 or seed is None:
            return self.trunk(x, place, mask)
        kept = (uniform(seed ^ _LAYERS, self.trunk.depth) >= self.layer_drop)[place.owners(x.device)]
        for index in range(self.trunk.depth):
            read = self.trunk(x, place, mask, start=index, stop=index + 1)
            x = torch.where(kept[:, index, None], read, x)
        return x


def _longest(frames: Int[Tensor, "n"]) -> int:
    return int(frames.max()) if len(frames) else 1


def _real(frames: Int[Tensor, "n"]) -> Bool[Tensor, "n t"]:
    return torch.arange(_longest(frames), device=frames.device) < frames[:, None]


def _places(frames: Int[Tensor, "n"]) -> Packing:
    return packing(_real(frames))
