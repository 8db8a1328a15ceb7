"""BiT: residual networks with GroupNorm and standardised filters, with the nonlinearity before or after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ...core.errors import ConfigError
from ...core.spec import Spec
from ..layers.activations import activation as by_name
from ..layers.convolution import DropBranch, StandardConv, pad_same, rounded
from ..layers.norms import GroupNorm
from .convolutional import ConvTower


def _norm_act(width: int, groups: int, activation: str) -> nn.Sequential:
    return nn.Sequential(GroupNorm(groups=groups, width=width), by_name(activation))


class PreActivation(nn.Module):
    """Norm, nonlinearity and convolution, three times, added to the untouched stream (He et al. 2016,
    arXiv:1603.05027), with the stride in the 3 x 3 convolution. The ``first`` block of a stage has a convolution as
    its shortcut, which reads what the first norm made. It is never dilated.
    """

    before: ClassVar[bool] = True

    def __init__(
        self,
        *,
        width_in: int,
        width: int,
        stride: int = 1,
        dilation: int = 1,
        first: bool = False,
        groups: int = 32,
        activation: str = "relu",
        same: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        inner = rounded(width / 4)
        self.norm1 = _norm_act(width_in, groups, activation)
        self.conv1 = StandardConv(width_in=width_in, width=inner, kernel=1, same=same)
        self.norm2 = _norm_act(inner, groups, activation)
        self.conv2 = StandardConv(width_in=inner, width=inner, kernel=3, stride=stride, same=same)
        self.norm3 = _norm_act(inner, groups, activation)
        self.conv3 = StandardConv(width_in=inner, width=width, kernel=1, same=same)
        self.shortcut = (
            StandardConv(width_in=width_in, width=width, kernel=1, stride=stride, same=same)
            if first
            else None
        )
        self.drop = DropBranch(rate=drop_path)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        normed = self.norm1(x)
        branch = self.conv3(self.norm3(self.conv2(self.norm2(self.conv1(normed)))))
        return self.drop(branch) + (x if self.shortcut is None else self.shortcut(normed))


class PostActivation(nn.Module):
    """The order of ResNet v1 with GroupNorm and standardised filters: the stem of hybrid ViTs (Dosovitskiy et al.
    2020, arXiv:2010.11929). The ``first`` block of a stage has a convolution as its shortcut.
    """

    before: ClassVar[bool] = False

    def __init__(
        self,
        *,
        width_in: int,
        width: int,
        stride: int = 1,
        dilation: int = 1,
        first: bool = False,
        groups: int = 32,
        activation: str = "relu",
        same: bool = False,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        inner = rounded(width / 4)
        self.conv1 = StandardConv(width_in=width_in, width=inner, kernel=1, same=same)
        self.norm1 = _norm_act(inner, groups, activation)
        self.conv2 = StandardConv(
            width_in=inner, width=inner, kernel=3, stride=stride, dilation=dilation, same=same
        )
        self.norm2 = _norm_act(inner, groups, activation)
        self.conv3 = StandardConv(width_in=inner, width=width, kernel=1, same=same)
        self.norm3 = GroupNorm(groups=groups, width=width)
        self.shortcut = (
            nn.Sequential(
                StandardConv(width_in=width_in, width=width, kernel=1, stride=stride, same=same),
                GroupNorm(groups=groups, width=width),
            )
            if first
            else nn.Identity()
        )
        self.drop = DropBranch(rate=drop_path)
        self.activation = by_name(activation)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        branch = self.norm2(self.conv2(self.norm1(self.conv1(x))))
        return self.activation(self.drop(self.norm3(self.conv3(branch))) + self.shortcut(x))


class BiT(ConvTower):
    """Big Transfer, ResNet v2 with GroupNorm (Kolesnikov et al. 2019, arXiv:1912.11370).

    ``block`` is the Spec of a ``PreActivation`` or ``PostActivation``, built for each block of each stage. ``same``
    pads convolutions as TensorFlow does; ``same_pool`` the pool of the stem. At most ``output_stride`` pixels become
    one place on each axis; from there on blocks are dilated. ``drop_path`` is the rate of the last block.
    """

    def __init__(
        self,
        *,
        block: Spec,
        widths: Sequence[int],
        depths: Sequence[int],
        stem: int = 64,
        channels: int = 3,
        values: nn.Module | None = None,
        groups: int = 32,
        activation: str = "relu",
        same: bool = False,
        same_pool: bool = False,
        output_stride: int = 32,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(values)
        if not len(widths) == len(depths) > 0:
            raise ConfigError(
                f"BiT needs one width and depth per stage; found {len(widths)} widths and {len(depths)} depths"
            )
        for width in (stem, *widths, *(rounded(width / 4) for width in widths)):
            if width % groups:
                raise ConfigError(f"BiT: a norm of {width} channels cannot be divided into {groups} groups")
        self.width = self.pooled_width = widths[-1]
        self.same_pool = same_pool
        self.stem = StandardConv(width_in=channels, width=stem, kernel=7, stride=2, same=same)
        self.border = 0 if same else 1  # of zeros; before the norm, which counts them
        before = block.cls.before  # type: ignore[attr-defined]
        outer: dict[str, int | str] = {"groups": groups, "activation": activation}
        self.stem_norm = nn.Identity() if before else _norm_act(stem, groups, activation)
        self.norm = _norm_act(self.width, groups, activation) if before else nn.Identity()
        self.stages = nn.Sequential()
        width_in, reached, dilation = stem, 4, 1
        total = max(sum(depths) - 1, 1)
        for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            stride = 1 if index == 0 else 2
            if reached >= output_stride:
                stride, dilation = 1, dilation * stride
            reached *= stride
            stage = nn.Sequential()
            for place in range(depth):
                made = block.replace(
                    width_in=width_in,
                    width=width,
                    stride=stride if place == 0 else 1,
                    # A stage's first block still sees places that lie closer together.
                    dilation=dilation if place else min(2, max(1, dilation // 2)),
                    first=place == 0,
                    same=same,
                    drop_path=drop_path * (sum(depths[:index]) + place) / total,
                    **outer,
                )
                stage.append(made.build())
                width_in = width
            self.stages.append(stage)

    def maps(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        x = self.stem(x)
        x = self.stem_norm(F.pad(x, [self.border] * 4) if self.border else x)
        x = F.max_pool2d(pad_same(x, 3, 2) if self.same_pool else x, 3, stride=2)
        return self.norm(self.stages(x))
