"""A spectrogram as a square grid of tokens (HTS-AT, Chen et al. 2022, arXiv:2202.00874).

Legend: n segments, f frames, b bins of frequency, v views, s side of the square, y and x rows and columns of the
grid of tokens, d width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..layers.attentional_fusion import AttentionalFusion
from ..layers.norms import BatchNorm, LayerNorm


class SpectrogramGrid(nn.Module):
    """Values ``[n, frames, bins, views]``, normalised per bin over batches, folded into a square and cut into patches.

    ``side / bins`` pieces of time stand one below the other in the square, so that up to ``side * side / bins`` frames
    fit; fewer are stretched. Patches lie ``stride`` apart. With ``fusion`` (the hidden width of its bottleneck) there
    are several views: one of the whole segment, and of segments whose views differ also parts in full detail,
    which are joined by attention (Wu et al. 2023, arXiv:2211.06687). Raises ConfigError for sizes that do not fit.
    """

    def __init__(
        self,
        *,
        bins: int,
        side: int,
        patch: Sequence[int],
        stride: Sequence[int],
        width: int,
        norm: bool = True,
        fusion: int | None = None,
    ) -> None:
        super().__init__()
        if side % bins:
            raise ConfigError(f"a square of side {side} is no multiple of {bins} bins of frequency")
        if any(p < s or (p - s) % 2 for p, s in zip(patch, stride, strict=True)):
            raise ConfigError(f"patches {list(patch)} do not reach equally over strides {list(stride)}")
        self.bins, self.side, self.width = bins, side, width
        rows, columns = patch
        padding = ((rows - stride[0]) // 2, (columns - stride[1]) // 2)
        self.norm_bins = BatchNorm(width=bins)
        self.project = nn.Conv2d(1, width, (rows, columns), (stride[0], stride[1]), padding)
        self.project_parts = self.fusion = None
        if fusion is not None:  # three parts side by side are as wide as the whole
            self.project_parts = nn.Conv2d(1, width, (rows, 3 * columns), (stride[0], 3 * stride[1]), padding)
            self.fusion = AttentionalFusion(width=width, hidden=fusion)
        self.norm = LayerNorm(width=width) if norm else nn.Identity()

    def forward(
        self, values: Float[Tensor, "n f b v"], lengths: Int[Tensor, "n"]
    ) -> Float[Tensor, "n y x d"]:
        squares = self._folded(self.norm_bins(values.transpose(1, 2)))
        x = self.project(squares[:, :1])
        if self.project_parts is not None:
            longer = (values[..., 1:] != values[..., :1]).flatten(1).any(1)
            x = self._fused(x, squares[:, 1:], longer)
        elif values.shape[-1] != 1:
            raise ConfigError(f"expected one view of each spectrogram, found {values.shape[-1]}")
        return self.norm(x.movedim(1, -1))

    def _folded(self, x: Float[Tensor, "n b f v"]) -> Float[Tensor, "n v s s"]:
        pieces = self.side // self.bins
        x = x.permute(0, 3, 2, 1)
        frames, most = x.shape[2], self.side * pieces
        if frames > most or x.shape[3] != self.bins:
            raise ConfigError(
                f"expected spectrograms of at most {most} frames and {self.bins} bins, found {list(x.shape[2:])}"
            )
        if frames < most and len(x):
            x = F.interpolate(x, (most, self.bins), mode="bicubic", align_corners=True)
        return x.reshape(*x.shape[:2], pieces, self.side, self.bins).transpose(3, 4).flatten(2, 3)

    def _fused(
        self, x: Float[Tensor, "n d y x"], squares: Float[Tensor, "n v s s"], longer: Bool[Tensor, "n"]
    ) -> Float[Tensor, "n d y x"]:
        """The parts of each segment beside one another, joined with its whole."""
        assert self.project_parts is not None
        assert self.fusion is not None
        which = longer.nonzero()[:, 0]
        parts = self.project_parts(squares[which].flatten(0, 1)[:, None])
        parts = parts.unflatten(0, (len(which), squares.shape[1])).permute(0, 2, 3, 1, 4).flatten(3)
        parts = F.pad(parts, (0, x.shape[3] - parts.shape[3]))
        return x.index_copy(0, which, self.fusion(x[which], parts))
