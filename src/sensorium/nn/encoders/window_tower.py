"""The hierarchical vision transformer: attention within shifted windows, over grids that halve from stage to stage.

Liu et al. 2021 (Swin), arXiv:2103.14030. Legend: n segments, y and x rows and columns of a grid, d width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ...core.spec import Spec
from ..heads.pooling import Pool
from ..layers.attention import SelfAttention
from ..layers.blocks import PreNorm
from ..layers.feed_forward import MLP
from ..layers.linear import Linear
from ..layers.masks import Mask
from ..layers.norms import LayerNorm
from ..layers.packing import dense
from ..layers.relative import RelativeTable
from ..layers.windows import WindowAttention
from .stems import patches
from .tower import Features, Tower


class GridEmbedding(nn.Module):
    """One linear map of each patch of values ``[n, *s, channels]``, then a norm: a grid of tokens.

    ``values`` comes first: it brings bytes to the range that the network expects (see ``Pixels``). The grid of values
    is filled with zeros to whole patches.
    """

    def __init__(
        self,
        *,
        patch: list[int],
        channels: int,
        width: int,
        values: nn.Module | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.patch, self.width = patch, width
        self.values = values if values is not None else nn.Identity()
        self.project = Linear(patch[0] * patch[1] * channels, width)
        self.norm = LayerNorm(width=width, eps=eps)

    def forward(
        self, values: Float[Tensor, "n h w c"], lengths: Int[Tensor, "n"]
    ) -> Float[Tensor, "n y x d"]:
        x = self.values(values)
        rows, columns = self.patch
        x = F.pad(x, (0, 0, 0, -x.shape[2] % columns, 0, -x.shape[1] % rows))
        grid = x.shape[1] // rows, x.shape[2] // columns
        return self.norm(self.project(patches(x, self.patch))).unflatten(1, grid)


class Merge(nn.Module):
    """Four neighbours become one token of twice the width; a grid of odd size is filled with zeros."""

    def __init__(self, *, width: int) -> None:
        super().__init__()
        self.norm = LayerNorm(width=4 * width)
        self.project = Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Float[Tensor, "n y x d"]) -> Float[Tensor, "n v u e"]:
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, row::2, column::2] for column in range(2) for row in range(2)]
        return self.project(self.norm(torch.cat(corners, dim=-1)))


class Stage(nn.Module):
    """``blocks`` over one grid, each a Block whose attention keeps to windows of ``mask.grid``."""

    def __init__(self, *, width: int, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.width, self.blocks = width, nn.ModuleList(blocks)

    def forward(self, x: Float[Tensor, "n y x d"]) -> Float[Tensor, "n y x d"]:
        n, *grid, _ = x.shape
        rows, place, mask = x.flatten(0, 2), dense(n, grid[0] * grid[1]), Mask(grid=(grid[0], grid[1]))
        for block in self.blocks:
            rows = block(rows, place, mask)
        return rows.view_as(x)


class WindowTower(Tower):
    """Stages with a ``Merge`` between them, over the grid of tokens that ``embedding`` makes of values and lengths.

    Token features are those of the last stage, normalised by ``norm_out`` if given. Raises ConfigError unless each
    stage is twice as wide as the one before.
    """

    def __init__(
        self,
        *,
        embedding: nn.Module,
        stages: Sequence[Stage],
        pool: Pool,
        norm_out: nn.Module | None = None,
    ) -> None:
        super().__init__()
        widths = [stage.width for stage in stages]
        if not widths or widths != [widths[0] << index for index in range(len(widths))]:
            raise ConfigError(f"each stage must be twice as wide as the one before, found widths {widths}")
        self.embedding, self.stages, self.pool = embedding, nn.ModuleList(stages), pool
        self.merges = nn.ModuleList(Merge(width=width) for width in widths[:-1])
        self.norm_out = norm_out if norm_out is not None else nn.Identity()
        self.width, self.pooled_width = widths[-1], pool.width
        self._initialise()

    def _initialise(self) -> None:
        for name, parameter in self.stages.named_parameters():
            if name.endswith("weight") and parameter.ndim == 2 and "relative" not in name:
                nn.init.normal_(parameter, std=0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, values: Tensor, lengths: Int[Tensor, "n"]) -> Features:
        x = self.maps(values, lengths)[-1]
        rows = self.norm_out(x.flatten(0, 2))
        lengths = lengths.new_full((len(x),), x.shape[1] * x.shape[2])
        return Features(rows, lengths, self.pool(rows, lengths))

    def maps(self, values: Tensor, lengths: Int[Tensor, "n"]) -> list[Float[Tensor, "n y x d"]]:
        """The features of the embedding and of each stage, before any norm, as detectors need them."""
        found = [self.embedding(values, lengths)]
        for index, stage in enumerate(self.stages):
            found.append(stage(self.merges[index - 1](found[-1]) if index else found[-1]))
        return found


def stages(
    *,
    width: int,
    depths: Sequence[int],
    heads: Sequence[int],
    window: int,
    ratio: float = 4.0,
    activation: str = "gelu",
    eps: float = 1e-5,
    biases: str = "qkvo",
    drop_path: float = 0.0,
    shift_small: bool = False,
) -> list[Spec]:
    """The Specs of Swin's stages: pre-norm blocks with a relative table each, every other one shifted by half a window.

    ``ratio`` is how much wider the feed-forward is; ``drop_path`` is the rate of the last block, growing from 0.
    """
    if len(depths) != len(heads):
        raise ConfigError(f"each stage needs its heads: found {len(depths)} depths and {len(heads)} heads")
    rates = iter(drop_path * index / max(sum(depths) - 1, 1) for index in range(sum(depths)))
    found = []
    for stage, (depth, many) in enumerate(zip(depths, heads, strict=True)):
        wide = width << stage
        attention = Spec(
            SelfAttention,
            width=wide,
            heads=many,
            biases=biases,
            relative=Spec(RelativeTable, grid=[window, window], heads=many),
        )
        blocks = [
            Spec(
                PreNorm,
                norm=Spec(LayerNorm, width=wide, eps=eps),
                attention=Spec(
                    WindowAttention,
                    attention=attention,
                    window=window,
                    shift=window // 2 if index % 2 else 0,
                    shift_small=shift_small,
                ),
                feed_forward=Spec(MLP, width=wide, hidden=int(ratio * wide), activation=activation),
                drop_path=next(rates),
            )
            for index in range(depth)
        ]
        found.append(Spec(Stage, width=wide, blocks=blocks))
    return found
