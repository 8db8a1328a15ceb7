"""Vectors as tokens: only real ones, each by itself."""

from __future__ import annotations

import pytest
import torch

from sensorium.core import ConfigError
from sensorium.nn.encoders.vectors import Vectors


def test_each_vector_is_a_token():
    torch.manual_seed(0)
    tower = Vectors(channels=3, width=5)
    values, lengths = torch.randn(2, 4, 3), torch.tensor([4, 2])
    found = tower(values, lengths)
    kept = torch.cat([values[0], values[1, :2]])
    torch.testing.assert_close(
        found.rows, torch.nn.functional.gelu(kept @ tower.project.weight.T + tower.project.bias)
    )
    assert found.lengths.tolist() == [4, 2]
    torch.testing.assert_close(found.pooled[1], found.rows[4:].mean(0))


def test_no_rows_and_another_size():
    tower = Vectors(channels=3, width=5)
    found = tower(torch.zeros(0, 1, 3), torch.zeros(0, dtype=torch.long))
    assert found.rows.shape == found.pooled.shape == (0, 5)
    (found.rows.sum() + found.pooled.sum()).backward()
    assert all(value.grad is not None for value in tower.parameters())
    with pytest.raises(ConfigError, match="vectors of 3 numbers, found 4"):
        tower(torch.zeros(1, 1, 4), torch.ones(1, dtype=torch.long))
