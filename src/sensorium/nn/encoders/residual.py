"""ResNet: stages of residual blocks with BatchNorm."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from ...core.errors import ConfigError
from ...core.spec import Spec
from ..layers.activations import activation as by_name
from ..layers.convolution import ConvNorm
from .convolutional import ConvTower


class _Residual(nn.Module):
    """``activation(shortcut(x) + branch(x))``; the shortcut is a convolution where the shape changes."""

    def __init__(
        self, branch: nn.Sequential, *, width_in: int, width: int, stride: int, activation: str
    ) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut: nn.Module = nn.Identity()
        if width_in != width or stride != 1:
            self.shortcut = ConvNorm(width_in=width_in, width=width, kernel=1, stride=stride)
        self.activation = by_name(activation)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        return self.activation(self.branch(x) + self.shortcut(x))


class Basic(_Residual):
    """Two 3 x 3 convolutions: ResNet-18 and 34. ``activation`` follows the sum; inside there are ReLUs."""

    def __init__(self, *, width_in: int, width: int, stride: int = 1, activation: str = "relu") -> None:
        branch = nn.Sequential(
            ConvNorm(width_in=width_in, width=width, kernel=3, stride=stride, activation="relu"),
            ConvNorm(width_in=width, width=width, kernel=3),
        )
        super().__init__(branch, width_in=width_in, width=width, stride=stride, activation=activation)


class Bottleneck(_Residual):
    """A 3 x 3 convolution on a quarter of the channels, between two 1 x 1: ResNet-50 and larger.

    The stride is in the 3 x 3 convolution, as is usual today, or in the first with ``stride_first``, as in the
    paper. ``activation`` follows the sum; inside there are ReLUs.
    """

    def __init__(
        self,
        *,
        width_in: int,
        width: int,
        stride: int = 1,
        activation: str = "relu",
        stride_first: bool = False,
    ) -> None:
        inner = width // 4
        first, second = (stride, 1) if stride_first else (1, stride)
        branch = nn.Sequential(
            ConvNorm(width_in=width_in, width=inner, kernel=1, stride=first, activation="relu"),
            ConvNorm(width_in=inner, width=inner, kernel=3, stride=second, activation="relu"),
            ConvNorm(width_in=inner, width=width, kernel=1),
        )
        super().__init__(branch, width_in=width_in, width=width, stride=stride, activation=activation)


class ResNet(ConvTower):
    """ResNet (He et al. 2015, arXiv:1512.03385).

    ``block`` is the Spec of a ``Basic`` or ``Bottleneck``, built for each of the ``depths[i]`` blocks of stage ``i``,
    which has ``widths[i]`` channels and whose first block has ``strides[i]``. The stem divides both axes by 4.
    """

    def __init__(
        self,
        *,
        block: Spec,
        widths: Sequence[int],
        depths: Sequence[int],
        strides: Sequence[int] = (1, 2, 2, 2),
        stem: int = 64,
        channels: int = 3,
        values: nn.Module | None = None,
        activation: str = "relu",
    ) -> None:
        super().__init__(values)
        if not len(widths) == len(depths) == len(strides) > 0:
            raise ConfigError(
                f"a ResNet needs one width, depth and stride per stage; "
                f"found {len(widths)} widths, {len(depths)} depths and {len(strides)} strides"
            )
        self.width = self.pooled_width = widths[-1]
        self.stem = ConvNorm(width_in=channels, width=stem, kernel=7, stride=2, activation=activation)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages = nn.Sequential()
        width_in = stem
        for width, depth, stride in zip(widths, depths, strides, strict=True):
            stage = nn.Sequential()
            for index in range(depth):
                made = block.replace(width_in=width_in, width=width, stride=stride if index == 0 else 1)
                stage.append(made.build())
                width_in = width
            self.stages.append(stage)

    def maps(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        return self.stages(self.pool(self.stem(x)))
