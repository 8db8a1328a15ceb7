"""Classification: accuracy, the confusion matrix, and the figures of each class that follow from it."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


def correct(predicted: Int[Tensor, "n"], expected: Int[Tensor, "n"]) -> Float[Tensor, "n"]:
    """1 where the prediction is right, else 0; its mean is ``sklearn.metrics.accuracy_score``."""
    return (predicted == expected).double()


def confusion(
    predicted: Int[Tensor, "n"], expected: Int[Tensor, "n"], *, classes: int
) -> Int[Tensor, "classes classes"]:
    """How often each expected class (row) was taken for each class (column), as scikit-learn's."""
    return torch.bincount(expected * classes + predicted, minlength=classes**2).view(classes, classes)


def per_class(matrix: Int[Tensor, "classes classes"]) -> dict[str, Float[Tensor, "classes"]]:
    """``precision``, ``recall`` and ``f1`` of each class from a confusion matrix.

    As ``sklearn.metrics.precision_recall_fscore_support(zero_division=0)``: 0 where nothing was
    predicted, or nothing was there.
    """
    hits = matrix.diagonal().double()
    precision = hits / matrix.sum(0).clamp(min=1)
    recall = hits / matrix.sum(1).clamp(min=1)
    total = precision + recall
    f1 = torch.where(total > 0, 2 * precision * recall / total.clamp(min=torch.finfo(total.dtype).tiny), 0.0)
    return {"precision": precision, "recall": recall, "f1": f1}
