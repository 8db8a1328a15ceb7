"""AdamW over groups made by rules, and the schedule of its learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from ..core.errors import ConfigError
from .distributed import sharded
from .rules import Rule, treatments
from .settings import within


class Optimizer(Protocol):
    """What training asks of an optimizer; every one of torch fulfils it."""

    param_groups: list[dict[str, Any]]
    state: Any

    def step(self) -> Any: ...

    def zero_grad(self, set_to_none: bool = True) -> None: ...


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101), fused kernel."""

    lr: float = 1e-3
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.98
    eps: float = 1e-8

    def __post_init__(self) -> None:
        within("optimizer.lr", self.lr, 0)
        within("optimizer.weight_decay", self.weight_decay, 0)
        within("optimizer.beta1", self.beta1, 0, 1)
        within("optimizer.beta2", self.beta2, 0, 1)
        within("optimizer.eps", self.eps, 0)

    def make(self, named: Iterable[tuple[str, nn.Parameter]], rules: Sequence[Rule]) -> torch.optim.AdamW:
        """The optimizer; parameters with rate 0 are frozen and left out. Each group keeps its ``rate``.

        What is sharded and what is not cannot share a group.
        """
        parameters = dict(named)
        groups: dict[tuple[float, float, bool], list[nn.Parameter]] = {}
        for name, treatment in treatments(parameters.items(), rules).items():
            parameter = parameters[name]
            parameter.requires_grad_(treatment.rate > 0)
            if treatment.rate > 0:
                kind = (treatment.rate, treatment.decay, sharded(parameter))
                groups.setdefault(kind, []).append(parameter)
        if not groups:
            raise ConfigError("the rules freeze every parameter: there is nothing to train")
        return torch.optim.AdamW(
            [
                {"params": group, "weight_decay": self.weight_decay * decay, "rate": rate}
                for (rate, decay, _), group in groups.items()
            ],
            lr=self.lr,
            betas=(self.beta1, self.beta2),
            eps=self.eps,
            fused=True,
        )


@dataclass(frozen=True)
class WarmupCosine:
    """Linear warm-up over the first ``warmup`` of the run, then a cosine down to ``final`` (arXiv:1608.03983).

    Both are fractions: of the run, and of the learning rate.
    """

    warmup: float = 0.05
    final: float = 0.02

    def __post_init__(self) -> None:
        within("schedule.warmup", self.warmup, 0, 1)
        within("schedule.final", self.final, 0, 1)

    def __call__(self, progress: float) -> float:
        """The factor of the learning rate at ``progress`` in [0, 1]."""
        if progress < self.warmup:
            return max(progress / self.warmup, 1e-3)
        rest = min((progress - self.warmup) / max(1 - self.warmup, 1e-9), 1.0)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * rest))


def set_rate(optimizer: Optimizer, lr: float) -> None:
    """Set the learning rate of every group, each with its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["rate"]
