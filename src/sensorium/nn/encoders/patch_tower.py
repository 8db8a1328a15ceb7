"""The vision transformer: patches of a regular grid, with leading tokens, through a transformer.

Legend: n segments, s... axes of the grid of values, g... axes of the grid of patches, c channels, d width.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..heads.pooling import Pooling
from ..layers.linear import Linear
from ..layers.masks import Mask
from ..layers.packing import dense
from ..layers.transformer import Transformer
from .stems import patches
from .tower import Features, Tower, check_one_size


class PatchEmbedding(nn.Module):
    """From values ``[n, *s, channels]`` to tokens: ``prefix`` learned ones (a class token), ``registers`` more that
    have no place (arXiv:2309.16588), then one linear map of each patch plus its position.

    ``values`` comes first: it brings bytes to the range that the network expects (see ``Pixels``). ``positions`` is
    called with the grid of patches and gives vectors for the ``prefix`` and all patches. A remainder smaller than a
    patch is cut off. With ``masked``, the vector of a patch is replaced by the learned one of ``mask_token``.
    ``dropout`` comes last.
    """

    def __init__(
        self,
        *,
        patch: list[int],
        channels: int,
        width: int,
        positions: nn.Module | None,
        values: nn.Module | None = None,
        prefix: int = 1,
        registers: int = 0,
        mask_token: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.patch, self.width, self.lead = patch, width, prefix + registers
        self.values = values if values is not None else nn.Identity()
        self.project = Linear(math.prod(patch) * channels, width, bias=bias)
        self.positions = positions
        self.prefix = nn.Parameter(torch.randn(prefix, width) * 0.02) if prefix else None
        self.registers = nn.Parameter(torch.randn(registers, width) * 0.02) if registers else None
        self.mask_token = nn.Parameter(torch.zeros(width)) if mask_token else None
        self.dropout = nn.Dropout(dropout)

    def grid(self, values: Float[Tensor, "n *s c"]) -> tuple[int, ...]:
        """The number of whole patches along each axis."""
        return tuple(size // p for size, p in zip(values.shape[1:-1], self.patch, strict=True))

    def parts(
        self, values: Float[Tensor, "n *s c"], masked: Bool[Tensor, "n t"] | None = None
    ) -> tuple[Float[Tensor, "l d"], Float[Tensor, "n t d"]]:
        """The leading tokens, the same for every segment, and the patches, all with their positions."""
        x = self.project(patches(self.whole(values), self.patch))
        if masked is not None and self.mask_token is not None:
            x = torch.where(masked[..., None], self.mask_token.to(x.dtype), x)
        prefix = self.prefix
        if self.positions is not None:
            table, lead = self.positions(self.grid(values)), 0 if prefix is None else len(prefix)
            prefix, x = None if prefix is None else prefix + table[:lead], x + table[lead:]
        leading = [part for part in (prefix, self.registers) if part is not None]
        return torch.cat([x.new_zeros(0, self.width), *leading]), x

    def whole(self, values: Float[Tensor, "n *s c"]) -> Float[Tensor, "n *s c"]:
        """The values as the network sees them: brought to its range, without what is no whole patch."""
        return self.values(self.cropped(values))

    def cropped(self, values: Shaped[Tensor, "n *s c"]) -> Shaped[Tensor, "n *s c"]:
        """The values without what is no whole patch."""
        sizes = (g * p for g, p in zip(self.grid(values), self.patch, strict=True))
        return values[slice(None), *map(slice, sizes)]

    def forward(
        self, values: Float[Tensor, "n *s c"], masked: Bool[Tensor, "n t"] | None = None
    ) -> Float[Tensor, "n t d"]:
        return self.dropout(self.join(*self.parts(values, masked)))

    def join(self, leading: Float[Tensor, "l d"], x: Float[Tensor, "n t d"]) -> Float[Tensor, "n s d"]:
        """Leading tokens before those of each segment."""
        return torch.cat([leading.to(x.dtype).expand(len(x), -1, -1), x], dim=1) if len(leading) else x


class PatchTower(Tower):
    """Patches through a transformer (ViT, Dosovitskiy et al. 2020, arXiv:2010.11929).

    ``norm_in`` and ``norm_out`` are what normalises before and after the blocks, if anything; ``pool`` makes one
    vector of a segment's tokens. ``relative`` gives numbers for all pairs of places that every block adds to its
    products of queries and keys (see ``RelativeTable``).
    """

    def __init__(
        self,
        *,
        embedding: PatchEmbedding,
        trunk: Transformer,
        pool: Pooling,
        norm_in: nn.Module | None = None,
        norm_out: nn.Module | None = None,
        relative: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.embedding, self.trunk, self.pool = embedding, trunk, pool
        self.relative = relative
        self.norm_in = norm_in if norm_in is not None else nn.Identity()
        self.norm_out = norm_out if norm_out is not None else nn.Identity()
        self.width, self.pooled_width = trunk.width, pool.width

    def forward(
        self,
        values: Float[Tensor, "n *s c"],
        lengths: Int[Tensor, "n"],
        masked: Bool[Tensor, "n t"] | None = None,
    ) -> Features:
        check_one_size(values, lengths)
        return self.read(self.embedding(values, masked), self.embedding.grid(values))

    def visible(self, values: Float[Tensor, "n *s c"], masked: Bool[Tensor, "n t"]) -> Features:
        """Leading tokens and only the patches that are not ``masked``, in reading order (MAE, He et al. 2021,
        arXiv:2111.06377). Raises ConfigError unless as many are masked in each segment.
        """
        embedding, grid = self.embedding, self.embedding.grid(values)
        counts = (~masked).sum(1).unique().tolist()
        if len(counts) > 1:
            raise ConfigError(
                f"as many patches of each segment must be visible, found {counts[0]} to {counts[-1]}"
            )
        leading, x = embedding.parts(values)
        seen = x[~masked].unflatten(0, (len(masked), *(counts or masked.shape[1:])))
        return self.read(embedding.join(leading, seen), grid)

    def read(self, x: Float[Tensor, "n t d"], grid: tuple[int, ...]) -> Features:
        """Tokens, leading ones among them, through the blocks."""
        n, t, _ = x.shape
        bias = self.relative(grid) if self.relative is not None else None
        rows = self.trunk(self.norm_in(x).flatten(0, 1), dense(n, t), Mask(grid=grid, bias=bias))
        rows = self.norm_out(rows)
        lengths = torch.full((n,), t, device=x.device)
        return Features(rows, lengths, self.pool(rows, lengths))
