"""Sine-cosine positions that are kept with the weights."""

from __future__ import annotations

import torch

from sensorium.core.state import saved_tensors
from sensorium.nn.layers.positions import sin_cos
from sensorium.nn.layers.sin_cos_table import SinCosTable


def test_it_is_saved_and_not_trained():
    table = SinCosTable(grid=[3, 4], width=16, prefix=2, order=[1, 0])
    assert list(saved_tensors(table)) == ["weight"]
    assert list(table.parameters()) == []
    assert torch.equal(table([3, 4])[:2], torch.zeros(2, 16))
    assert torch.equal(table([3, 4])[2:], sin_cos([3, 4], 16, order=[1, 0]))
    assert torch.equal(table([3, 4])[2 + 1, :8], table([3, 4])[2 + 5, :8])  # columns come first
    assert not torch.equal(table([3, 4])[2 + 1, 8:], table([3, 4])[2 + 5, 8:])


def test_other_grids():
    plane = SinCosTable(grid=[4, 4], width=16, prefix=1)
    line = SinCosTable(grid=[4, 4], width=16, prefix=1, in_line=True)
    assert plane([6, 3]).shape == line([6, 3]).shape == (19, 16)
    assert not torch.equal(plane([6, 3]), line([6, 3]))
    assert torch.equal(line([2, 8]), line.weight)  # as many places in reading order
    assert not torch.equal(plane([2, 8]), plane.weight)
    assert torch.equal(plane([6, 3])[0], torch.zeros(16))
