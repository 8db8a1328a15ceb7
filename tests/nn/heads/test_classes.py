"""The classification head."""

from __future__ import annotations

import torch

from sensorium.nn.heads.classes import ClassHead


def test_it_is_one_linear_map_with_dropout_in_training_only():
    torch.manual_seed(0)
    head, x = ClassHead(width=6, classes=4, dropout=0.5), torch.randn(3, 6)
    expected = x @ head.project.weight.T + head.project.bias
    assert not torch.equal(head(x), head(x))
    torch.testing.assert_close(head.eval()(x), expected)
    assert head(x[:0]).shape == (0, 4)
