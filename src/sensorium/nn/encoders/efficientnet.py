"""EfficientNet: inverted bottlenecks with depthwise convolutions and gated channels, scaled in width and depth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from ...core.errors import ConfigError
from ..layers.convolution import ConvNorm, DropBranch, SqueezeExcite, rounded
from .convolutional import ConvTower

#: Channels of the stem and of the last convolution, before scaling.
STEM, TOP = 32, 1280


@dataclass(frozen=True)
class Stage:
    """``depth`` blocks of ``width`` channels before scaling; the first has the ``stride``. ``expansion`` is how many
    times wider a block is inside.
    """

    width: int
    depth: int
    kernel: int
    stride: int
    expansion: int

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ConfigError(f"EfficientNet: a kernel must be odd, found {self.kernel}")


class MBConv(nn.Module):
    """Widen, filter each channel by itself, gate the channels, narrow, and add (Sandler et al. 2018,
    arXiv:1801.04381). ``squeeze`` is the share of the block's channels that the gate is computed from. ``uneven``:
    at stride 2, one zero less before each axis than after it. ``drop_path`` is None where nothing is added.
    """

    def __init__(
        self,
        *,
        width_in: int,
        width: int,
        stage: Stage,
        stride: int,
        uneven: bool = True,
        squeeze: float = 0.25,
        activation: str = "silu",
        drop_path: float | None = None,
        eps: float = 1e-3,
        momentum: float = 0.01,
    ) -> None:
        super().__init__()
        inner = width_in * stage.expansion
        self.expand = (
            ConvNorm(
                width_in=width_in, width=inner, kernel=1, activation=activation, eps=eps, momentum=momentum
            )
            if stage.expansion != 1
            else nn.Identity()
        )
        self.depthwise = ConvNorm(
            width_in=inner,
            width=inner,
            kernel=stage.kernel,
            stride=stride,
            groups=inner,
            uneven=uneven and stride == 2,
            activation=activation,
            eps=eps,
            momentum=momentum,
        )
        self.gate = SqueezeExcite(width=inner, hidden=max(1, int(width_in * squeeze)), activation=activation)
        self.project = ConvNorm(width_in=inner, width=width, kernel=1, eps=eps, momentum=momentum)
        self.drop = DropBranch(rate=drop_path) if drop_path is not None else None

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        found = self.project(self.gate(self.depthwise(self.expand(x))))
        return found if self.drop is None else x + self.drop(found)


class EfficientNet(ConvTower):
    """EfficientNet (Tan and Le 2019, arXiv:1905.11946).

    Widths are multiplied by ``wider`` and rounded to multiples of ``divisor``, depths by ``deeper`` and rounded up.
    ``even`` lists the blocks, counted from 0, that pad both sides alike at stride 2. Without ``top`` the map of the
    last block is what comes out, as in ALIGN. ``drop_path`` grows over the blocks from 0 up to, but excluding, its
    value. ``momentum`` is the share of the newest batch in the running statistics.
    """

    def __init__(
        self,
        *,
        stages: Sequence[Stage],
        wider: float = 1.0,
        deeper: float = 1.0,
        divisor: int = 8,
        squeeze: float = 0.25,
        even: Sequence[int] = (),
        top: bool = True,
        channels: int = 3,
        values: nn.Module | None = None,
        activation: str = "silu",
        drop_path: float = 0.2,
        eps: float = 1e-3,
        momentum: float = 0.01,
    ) -> None:
        super().__init__(values)
        if not stages:
            raise ConfigError("EfficientNet needs at least one stage")
        width_in = rounded(STEM * wider, divisor)
        self.stem = ConvNorm(
            width_in=channels,
            width=width_in,
            kernel=3,
            stride=2,
            uneven=True,
            activation=activation,
            eps=eps,
            momentum=momentum,
        )
        depths = [math.ceil(deeper * stage.depth) for stage in stages]
        self.blocks = nn.Sequential()
        for stage, depth in zip(stages, depths, strict=True):
            for place in range(depth):
                index = len(self.blocks)
                width, stride = rounded(stage.width * wider, divisor), stage.stride if place == 0 else 1
                self.blocks.append(
                    MBConv(
                        width_in=width_in,
                        width=width,
                        stage=stage,
                        stride=stride,
                        uneven=index not in even,
                        squeeze=squeeze,
                        activation=activation,
                        drop_path=drop_path * index / sum(depths) if place else None,
                        eps=eps,
                        momentum=momentum,
                    )
                )
                width_in = width
        self.width = self.pooled_width = rounded(TOP * wider, divisor) if top else width_in
        self.top = (
            ConvNorm(
                width_in=width_in,
                width=self.width,
                kernel=1,
                activation=activation,
                eps=eps,
                momentum=momentum,
            )
            if top
            else nn.Identity()
        )

    def maps(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        return self.top(self.blocks(self.stem(x)))
