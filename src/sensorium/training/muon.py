"""Muon for the matrices of a transformer, AdamW for the rest.

On the embedded data it reached the same language loss in about half the steps of AdamW alone: see docs/log.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..core.errors import ConfigError
from ..core.product import products
from .distributed import sharded
from .optimizer import AdamW
from .rules import Rule
from .settings import within


@dataclass(frozen=True)
class Muon:
    """Momentum made orthogonal by Newton-Schulz iterations (Jordan et al. 2024, kellerjordan.github.io/posts/muon),
    with updates as large as AdamW's (Liu et al. 2025, arXiv:2502.16982).

    It applies to the matrices of repeated blocks, that is parameters below ``blocks``; embeddings, heads,
    convolutions and vectors are left to ``others``, whose settings are AdamW's.
    """

    lr: float = 4e-3
    momentum: float = 0.95
    weight_decay: float = 0.01
    others: AdamW = AdamW(lr=2e-3)

    def __post_init__(self) -> None:
        within("optimizer.lr", self.lr, 0)
        within("optimizer.momentum", self.momentum, 0, 1)
        within("optimizer.weight_decay", self.weight_decay, 0)

    def make(self, named: Iterable[tuple[str, nn.Parameter]], rules: Sequence[Rule]) -> Both:
        """The two optimizers as one; rules and groups are as for AdamW."""
        parameters = dict(named)
        matrices = {
            id(parameter)
            for name, parameter in parameters.items()
            if parameter.ndim == 2 and "blocks" in name.split(".")
        }
        if any(sharded(parameter) for parameter in parameters.values()):
            raise ConfigError(
                "Muon needs whole matrices: train with distribution=ddp, or with the optimizer AdamW"
            )
        adamw = self.others.make(parameters.items(), rules)
        groups = []
        for group in adamw.param_groups:
            mine = [parameter for parameter in group["params"] if id(parameter) in matrices]
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in matrices]
            rate = group["rate"]
            group["rate"] = rate * self.others.lr / self.lr
            if mine:
                decay = group["weight_decay"] / self.others.weight_decay if self.others.weight_decay else 1.0
                groups.append({"params": mine, "rate": rate, "weight_decay": self.weight_decay * decay})
        if not groups:
            raise ConfigError("Muon found no matrix below 'blocks' to train: use the optimizer AdamW")
        return Both(Orthogonal(groups, lr=self.lr, momentum=self.momentum), adamw)


class Orthogonal(torch.optim.Optimizer):
    """Muon's update of matrices. torch's own computes in bfloat16, which most CPUs have to emulate."""

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, momentum: float) -> None:
        super().__init__(groups, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # no closure is evaluated again
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = {}
            for parameter in group["params"]:
                if parameter.grad is not None:
                    shapes.setdefault(parameter.shape, []).append(parameter)
            for shape, parameters in shapes.items():
                # Nesterov momentum, then all matrices of one shape at once.
                gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
                buffers = [self._buffer(parameter) for parameter in parameters]
                torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
                ahead = torch._foreach_lerp(gradients, buffers, group["momentum"])
                updates = orthogonal(torch.stack(ahead))
                scale = 0.2 * max(shape) ** 0.5  # the root mean square of an AdamW update
                torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(parameters, list(updates), alpha=-group["lr"] * scale)

    def _buffer(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        return state["momentum_buffer"]


def orthogonal(matrices: Float[Tensor, "n rows columns"], steps: int = 5) -> Float[Tensor, "n rows columns"]:
    """The matrices with singular values near 1, by Newton-Schulz iterations with Jordan's coefficients."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.float()
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = products(x, x)
        x = a * x + products(b * gram + c * products(gram, gram), x.mT)
    return (x.mT if tall else x).to(matrices.dtype)


class Both:
    """Two optimizers of different parameters, with one state and one list of groups."""

    def __init__(self, first: torch.optim.Optimizer, second: torch.optim.Optimizer) -> None:
        self.parts = (first, second)
        second.param_groups[:] = [group for group in second.param_groups if group["params"]]
        first.state = self.state = second.state  # keyed by parameter, of which they share none
        self.param_groups = [*first.param_groups, *second.param_groups]

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none=set_to_none)
