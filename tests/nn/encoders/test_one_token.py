"""A segment as one token."""

from __future__ import annotations

import torch
from torch import nn

from sensorium.nn.encoders.one_token import OneToken
from sensorium.nn.encoders.tiled import Tiled
from sensorium.nn.encoders.tower import Features, Tower


class Ear(Tower):
    width, pooled_width = 4, 3

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(4, 3)

    def forward(self, values: torch.Tensor, lengths: torch.Tensor) -> Features:
        return Features(values.flatten(0, 1), lengths, self.head(values.mean(1)))


def test_its_token_is_the_vector():
    ear, values = Ear(), torch.randn(2, 5, 4)
    found = OneToken(tower=ear)(values, torch.tensor([5, 5]))
    torch.testing.assert_close(found.rows, ear.head(values.mean(1)))
    assert (found.lengths.tolist(), found.rows.shape) == ([1, 1], (2, 3))
    pieces = Tiled(tower=OneToken(tower=ear))(values[None], torch.tensor([2]))
    torch.testing.assert_close(pieces.rows, found.rows)
    assert pieces.lengths.tolist() == [2]


def test_no_rows():
    found = OneToken(tower=Ear())(torch.zeros(0, 5, 4), torch.zeros(0, dtype=torch.long))
    assert (found.rows.shape, found.lengths.tolist()) == ((0, 3), [])
