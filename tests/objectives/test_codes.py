"""Contrast and diversity of codes against loops."""

from __future__ import annotations

import math

import torch
from torch.nn.functional import cosine_similarity

from sensorium.core.outputs import CodePrediction, Outputs
from sensorium.objectives import CodeContrast, CodeDiversity

LENGTHS = [4, 1, 3]


def prediction() -> CodePrediction:
    """Three segments; the lonely frame of the second has no distractor; frames 0 and 2 of the first share a code."""
    torch.manual_seed(0)
    chosen = torch.tensor([[0, 1], [1, 1], [0, 1], [2, 0], [1, 0], [0, 0], [1, 2], [2, 2]])
    shares = torch.rand(8, 2, 3, dtype=torch.float64)
    return CodePrediction(
        predicted=torch.randn(8, 5, dtype=torch.float64),
        codes=torch.randn(8, 5, dtype=torch.float64),
        chosen=chosen,
        shares=shares / shares.sum(-1, keepdim=True),
        lengths=torch.tensor(LENGTHS),
        distractors=torch.tensor([[1, 2], [0, 3], [0, 0], [2, 2], [-1, -1], [1, 2], [0, 0], [1, 0]]),
        weight=torch.tensor([1 / 4] * 4 + [1.0] + [1 / 3] * 3, dtype=torch.float64),
    )


def test_contrast():
    found = prediction()
    expected, start = 0.0, 0
    for length in LENGTHS:
        for row in range(start, start + length):
            wrong = [start + int(d) for d in found.distractors[row] if d >= 0]
            wrong = [d for d in wrong if found.chosen[d].tolist() != found.chosen[row].tolist()]
            scores = [
                math.exp(cosine_similarity(found.predicted[row], found.codes[d], dim=0) / 0.2)
                for d in [row, *wrong]
            ]
            expected -= math.log(scores[0] / sum(scores)) / length
        start += length
    total = CodeContrast(temperature=0.2).totals(Outputs(codes=found))["codes"]
    assert abs(float(total) - expected) < 1e-12


def test_diversity():
    found = prediction()
    mean = (
        sum(share.sum(0) / length for share, length in zip(found.shares.split(LENGTHS), LENGTHS, strict=True))
        / 3
    )
    perplexity = sum(math.exp(-sum(p * math.log(p) for p in book.tolist())) for book in mean)
    total = CodeDiversity().totals(Outputs(codes=found))["diversity"]
    assert abs(float(total) - 3 * (1 - perplexity / 6)) < 1e-12


def test_codes_never_chosen():
    """The gradient stays finite where no frame uses a code at all."""
    found = prediction()
    shares = found.shares.masked_fill(torch.tensor([False, False, True]), 0.0).requires_grad_()
    total = CodeDiversity().totals(Outputs(codes=CodePrediction(**{**vars(found), "shares": shares})))[
        "diversity"
    ]
    total.backward()
    assert shares.grad.isfinite().all()


def test_nothing_hidden():
    assert CodeContrast().totals(Outputs()) == CodeDiversity().totals(Outputs()) == {}
