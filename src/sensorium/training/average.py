"""An exponential moving average of the weights, which often generalises better than the last ones."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from .distributed import local


class Average:
    """Weights averaged over about the last ``1 / (1 - decay)`` steps (Polyak and Juditsky 1992).

    Early on the window is shorter, so that the first weights are soon forgotten.
    """

    def __init__(self, named: Iterable[tuple[str, nn.Parameter]], decay: float) -> None:
        self.parameters = dict(named)
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in self.parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the current weights; ``step`` counts from 1."""
        keep = min(self.decay, step / (step + 10))
        values = [local(value) for value in self.values.values()]
        torch._foreach_lerp_(values, [local(p.detach()) for p in self.parameters.values()], 1 - keep)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange the averaged and the current weights; a second call undoes it."""
        for name, value in self.values.items():
            current = self.parameters[name].detach()
            kept = current.clone()
            current.copy_(value)
            value.copy_(kept)
