"""What is to be predicted of a masked patch, and how a prediction becomes values again.

Legend: n segments, s... axes of the grid of values, c channels, t patches, p values of a patch.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .stems import assembled, patches

_EPS = 1e-6


class PatchTarget(nn.Module, abc.ABC):
    """The values of a patch; with ``normalise``, at mean 0 and variance 1. ``borrows`` says that the values of a
    prediction then need mean and variance of the true patch.
    """

    def __init__(self, *, normalise: bool = False) -> None:
        super().__init__()
        self.normalise = normalise

    @property
    def borrows(self) -> bool:
        return self.normalise

    def forward(self, values: Float[Tensor, "n *s c"], patch: Sequence[int]) -> Float[Tensor, "n t p"]:
        """What is to be predicted of each patch."""
        cut = patches(self._scaled(values), patch)
        if not self.normalise:
            return cut
        mean, spread = self._statistics(cut, values.shape[-1])
        return (cut - mean) / spread

    def values(
        self, predicted: Float[Tensor, "n t p"], truth: Float[Tensor, "n *s c"], patch: Sequence[int]
    ) -> Float[Tensor, "n *s c"]:
        """The values that stand for predictions; ``truth`` is lent mean and variance."""
        if self.normalise:
            mean, spread = self._statistics(patches(self._scaled(truth), patch), truth.shape[-1])
            predicted = predicted * spread + mean
        grid = [size // p for size, p in zip(truth.shape[1:-1], patch, strict=True)]
        return self._unscaled(assembled(predicted, grid, patch))

    @abc.abstractmethod
    def _statistics(self, cut: Float[Tensor, "n t p"], channels: int) -> tuple[Tensor, Tensor]:
        """What is subtracted, and then divided by."""

    def _scaled(self, values: Float[Tensor, "n *s c"]) -> Float[Tensor, "n *s c"]:
        return values

    def _unscaled(self, values: Float[Tensor, "n *s c"]) -> Float[Tensor, "n *s c"]:
        return values


class Values(PatchTarget):
    """All values of a patch alike (MAE, He et al. 2021, arXiv:2111.06377)."""

    def _statistics(self, cut: Float[Tensor, "n t p"], channels: int) -> tuple[Tensor, Tensor]:
        mean, variance = _moments(cut, -1)
        return mean, (variance + _EPS).sqrt()


class ChannelValues(PatchTarget):
    """Each channel of a patch by itself, of values times ``std`` plus ``mean`` (VideoMAE, Tong et al. 2022,
    arXiv:2203.12602).
    """

    def __init__(self, *, normalise: bool = True, mean: list[float], std: list[float]) -> None:
        super().__init__(normalise=normalise)
        # Not saved; made where they exist even if parameters are only described ("meta").
        self.register_buffer("mean", torch.tensor(mean, device="cpu"), persistent=False)
        self.register_buffer("std", torch.tensor(std, device="cpu"), persistent=False)

    def _statistics(self, cut: Float[Tensor, "n t p"], channels: int) -> tuple[Tensor, Tensor]:
        mean, variance = _moments(cut.unflatten(-1, (cut.shape[-1] // channels, channels)), -2)
        whole = [*cut.shape[:-1], cut.shape[-1] // channels, channels]
        return mean.expand(whole).flatten(-2), (variance.sqrt() + _EPS).expand(whole).flatten(-2)

    def _scaled(self, values: Float[Tensor, "n *s c"]) -> Float[Tensor, "n *s c"]:
        return values * self.get_buffer("std") + self.get_buffer("mean")

    def _unscaled(self, values: Float[Tensor, "n *s c"]) -> Float[Tensor, "n *s c"]:
        return (values - self.get_buffer("mean")) / self.get_buffer("std")


def _moments(x: Float[Tensor, "*m p"], axis: int) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance along an axis, which stays; torch's own warns of empty batches."""
    mean = x.mean(axis, keepdim=True)
    return mean, (x - mean).square().sum(axis, keepdim=True) / max(x.shape[axis] - 1, 1)
