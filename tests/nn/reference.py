"""A reference of transformers in float64, by default or all random, and its numbers in our network."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

Renames = Sequence[tuple[str, str]]


def reference(cls: type[nn.Module], config: Any, how: str, seed: int = 0) -> Any:
    """``default``: as it initialises itself; ``random``: every parameter and running statistic drawn."""
    torch.manual_seed(seed)
    made = cls(config).double().eval()
    if how == "random":
        with torch.no_grad():
            for name, value in (*made.named_parameters(), *made.named_buffers()):
                if name.endswith("running_var"):
                    value.uniform_(0.5, 2)
                elif value.is_floating_point():
                    wide = value.numel() / len(value) if value.ndim > 1 else 4
                    value.normal_(std=wide**-0.5).add_(0.5 if value.ndim == 1 else 0)
    return made


def take_over(network: nn.Module, state: dict[str, Tensor], renames: Renames) -> nn.Module:
    """Load ``state`` strictly under the names that the replacements make of it."""
    renamed = {}
    for name, value in state.items():
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        assert name not in renamed, name
        renamed[name] = value
    network.double().load_state_dict(renamed)
    return network.eval()


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)


def rows(maps: Tensor) -> Tensor:
    """The places of maps [n, c, h, w] as rows."""
    return maps.permute(0, 2, 3, 1).flatten(0, 2)
