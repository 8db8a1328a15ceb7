"""Features to connect, references with random weights, and what every connector does without rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sensorium.nn.connectors.connector import Connector, Rows
from sensorium.nn.connectors.projector import Projector
from sensorium.nn.encoders.tower import Features

INITIALISATIONS = ["default", "random"]
EXACT = {"atol": 1e-10, "rtol": 0.0}
#: Where the reference normalises in single precision whatever its weights are.
SINGLE = {"atol": 2e-6, "rtol": 0.0}


def features(lengths: Sequence[int], width: int, seed: int = 0) -> Features:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(sum(lengths), width, dtype=torch.float64, generator=generator)
    return Features(rows, torch.tensor(lengths, dtype=torch.long), torch.zeros(len(lengths), width).double())


def linear(inner: int, width: int = 5) -> Projector:
    torch.manual_seed(0)
    return Projector(inner=inner, width=width).double()


class Same(Connector):
    """Rows as they are."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, features: Features, layout: Tensor | None = None) -> Rows:
        return Rows(features.rows, features.lengths)


def copied(module: nn.Module, values: Mapping[str, Any]) -> Any:
    """The module in float64 with these weights, which must be all of them."""
    module.double().load_state_dict({name: value.detach().clone() for name, value in values.items()})
    return module.eval()


def check_no_rows(connector: Connector, width: int, layout: int | None = None) -> None:
    """Without segments there are no rows, and every weight has a gradient."""
    connector = connector.double()
    grids = None if layout is None else torch.zeros(0, layout, dtype=torch.long)
    found = connector(features([], width), grids)
    assert found.rows.shape == (0, connector.width)
    assert found.lengths.tolist() == []
    found.rows.sum().backward()
    assert not [name for name, value in connector.named_parameters() if value.grad is None]
