"""Hiding spans of time and of channels from a network, drawn from each segment's own seed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ...core.random import seed_of, uniform

_TIME, _CHANNELS, _NUMBER = seed_of("spans of time"), seed_of("spans of channels"), seed_of("number of spans")


class SpecAugment(nn.Module):
    """Spans of frames become one learned ``vector`` and spans of channels 0 (SpecAugment, Park et al. 2019,
    arXiv:1904.08779; wav2vec 2.0, arXiv:2006.11477).

    Of ``n`` places, about ``share * n / length`` spans of ``length`` are drawn, at least ``least``; they may overlap. A
    segment too short for a span has none. ``active`` False keeps the vector, and draws nothing.
    """

    def __init__(
        self,
        *,
        width: int,
        time_share: float = 0.05,
        time_length: int = 10,
        time_least: int = 2,
        channel_share: float = 0.0,
        channel_length: int = 10,
        channel_least: int = 0,
        active: bool = True,
    ) -> None:
        super().__init__()
        if min(time_length, channel_length) < 1:
            raise ConfigError(
                f"SpecAugment: spans must be at least 1 long, found {time_length}, {channel_length}"
            )
        self.width, self.active = width, active
        self.time = (time_share, time_length, time_least)
        self.channels = (channel_share, channel_length, channel_least)
        self.vector = nn.Parameter(torch.rand(width))

    def masked(self, seed: Int[Tensor, "n"], lengths: Int[Tensor, "n"]) -> Bool[Tensor, "n t"]:
        """Which frames are hidden."""
        return spans(seed ^ _TIME, lengths, *self.time)

    def hide(self, rows: Float[Tensor, "m d"], masked: Bool[Tensor, "m"]) -> Float[Tensor, "m d"]:
        """The frames with the learned vector in place of the masked ones."""
        return torch.where(masked[:, None], self.vector.to(rows.dtype), rows)

    def blank(
        self, rows: Float[Tensor, "m d"], seed: Int[Tensor, "n"], owners: Int[Tensor, "m"]
    ) -> Float[Tensor, "m d"]:
        """The frames with some channels at 0 throughout a segment."""
        if self.channels[0] == 0:
            return rows
        gone = spans(seed ^ _CHANNELS, torch.full_like(seed, self.width), *self.channels)
        return rows.masked_fill(gone[owners], 0.0)


def spans(
    seed: Int[Tensor, "n"], lengths: Int[Tensor, "n"], share: float, length: int, least: int
) -> Bool[Tensor, "n t"]:
    """Random spans of ``length`` places among the first ``lengths``, beginning at different ones."""
    longest = int(lengths.max()) if len(lengths) else 0
    number = (share * lengths / length + uniform(seed ^ _NUMBER, 1)[:, 0]).long().clamp(min=least)
    number = torch.minimum(number, torch.minimum(lengths // length, lengths - length + 1).clamp(min=0))
    place = torch.arange(longest, device=seed.device)
    late = place > (lengths - length)[:, None]
    rank = uniform(seed, longest).masked_fill(late, 2.0).argsort(dim=1, stable=True).argsort(dim=1)
    begun = (rank < number[:, None]).cumsum(1)
    return begun > F.pad(begun, (length, 0))[:, :longest]
