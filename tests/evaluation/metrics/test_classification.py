"""Confusion matrices and per-class figures, by hand."""

from __future__ import annotations

import torch

from sensorium.evaluation.metrics import confusion, correct, per_class

EXPECTED = torch.tensor([0, 0, 0, 1, 1, 2])
PREDICTED = torch.tensor([0, 0, 1, 1, 0, 1])


def test_correct() -> None:
    assert correct(PREDICTED, EXPECTED).tolist() == [1, 1, 0, 1, 0, 0]


def test_confusion_has_the_expected_in_rows() -> None:
    assert confusion(PREDICTED, EXPECTED, classes=3).tolist() == [[2, 1, 0], [1, 1, 0], [0, 1, 0]]


def test_per_class() -> None:
    figures = per_class(confusion(PREDICTED, EXPECTED, classes=3))
    torch.testing.assert_close(figures["precision"], torch.tensor([2 / 3, 1 / 3, 0.0], dtype=torch.float64))
    torch.testing.assert_close(figures["recall"], torch.tensor([2 / 3, 1 / 2, 0.0], dtype=torch.float64))
    torch.testing.assert_close(figures["f1"], torch.tensor([2 / 3, 2 / 5, 0.0], dtype=torch.float64))
