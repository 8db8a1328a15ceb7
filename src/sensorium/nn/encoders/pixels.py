"""From bytes to the numbers that a network expects, on its own device: batches travel as bytes, four times smaller."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from ...core.errors import ConfigError

PLACE_BYTES = 4  # row and column of a patch as two 16-bit numbers, low byte first


class Pixels(nn.Module):
    """``(value * rescale - mean) / std`` of bytes ``[..., channels]``, one mean and deviation per channel or for all.

    Values that are numbers already are passed on as they are: they count as normalised. The result has the type
    that the module was cast to (``.double()``, ``.half()``); below single precision it is rounded at the end only.
    There is nothing to save, and nothing that a device without memory ("meta") could lose.
    """

    def __init__(
        self, *, mean: float | list[float] = 0.0, std: float | list[float] = 1.0, rescale: float = 1 / 255
    ) -> None:
        super().__init__()
        means, stds = _numbers(mean), _numbers(std)
        if len(means) != len(stds) and 1 not in (len(means), len(stds)):
            raise ConfigError(f"Pixels: mean has {len(means)} numbers and std has {len(stds)}")
        if not all(map(math.isfinite, (*means, *stds, rescale))) or 0.0 in stds or rescale == 0:
            raise ConfigError(
                f"Pixels: expected finite numbers, std and rescale not 0, found {mean}, {std} and {rescale}"
            )
        channels = max(len(means), len(stds))
        means, stds = (v * channels if len(v) == 1 else v for v in (means, stds))
        self.scale = [rescale / s for s in stds]
        self.shift = [-m / s for m, s in zip(means, stds, strict=True)]
        # Follows casts and holds nothing: on no device is there anything to lose.
        self.register_buffer("type_as", torch.empty(0, device="cpu"), persistent=False)

    def forward(self, values: UInt8[Tensor, "*s c"] | Float[Tensor, "*s c"]) -> Float[Tensor, "*s c"]:
        if values.dtype != torch.uint8:
            return values
        wanted = self.get_buffer("type_as").dtype
        numbers = values.to(torch.promote_types(wanted, torch.float32))
        return (numbers * _row(self.scale, numbers) + _row(self.shift, numbers)).to(wanted)

    def undo(self, numbers: Float[Tensor, "*s c"]) -> UInt8[Tensor, "*s c"]:
        """The bytes that come nearest to such numbers."""
        wide = numbers.to(torch.promote_types(numbers.dtype, torch.float32))
        values = (wide - _row(self.shift, wide)) / _row(self.scale, wide)
        return values.round().clamp(0, 255).to(torch.uint8)


def split_places(
    values: UInt8[Tensor, "n t b"], patch: int
) -> tuple[UInt8[Tensor, "n t patch patch 3"], Int[Tensor, "n t 2"]]:
    """Patches that carry their own places apart: their bytes, and the row and column of each in its own grid.

    The last ``PLACE_BYTES`` of a patch are its place (see ``modalities.geometry.NativePatches``). A segment's grid
    has one row and column more than the largest of its real patches; padding has the place (0, 0).
    """
    pixels, low, high = values[..., :-PLACE_BYTES], values[..., -4::2], values[..., -3::2]
    return pixels.unflatten(-1, (patch, patch, -1)), low.long() + 256 * high.long()


def _numbers(given: float | Sequence[float]) -> list[float]:
    return [float(v) for v in given] if isinstance(given, Sequence) else [float(given)]


def _row(numbers: list[float], like: Tensor) -> Tensor | float:
    """One number per channel, made on the device: copying them there would stop it, and forbid its graphs."""
    if len(set(numbers)) == 1:
        return numbers[0]
    return torch.stack([like.new_full((), number) for number in numbers])
