"""CTC against the sum over all alignments written out."""

from __future__ import annotations

from itertools import groupby, product

import pytest
import torch
from torch import Tensor

from sensorium.core import ConfigError
from sensorium.core.outputs import Outputs, Transcription
from sensorium.objectives import CTC

BLANK = 1


def surprise(logits: Tensor, words: list[int]) -> Tensor:
    """Minus the logarithm of the probability of all ways to say ``words`` in the frames given."""
    chances = logits.softmax(1)
    ways = [
        torch.stack([chances[frame, token] for frame, token in enumerate(way)]).prod()
        for way in product(range(logits.shape[1]), repeat=len(logits))
        if [token for token, _ in groupby(way) if token != BLANK] == words
    ]
    return -torch.stack(ways).sum().log()


def said(words: list[list[int]], frames: list[int]) -> tuple[Transcription, list[Tensor]]:
    torch.manual_seed(0)
    logits = torch.randn(sum(frames), 4, dtype=torch.float64)
    found = Transcription(
        logits,
        torch.tensor(frames),
        torch.tensor([token for part in words for token in part]).long(),
        torch.tensor([len(part) for part in words]),
        BLANK,
    )
    return found, list(logits.split(frames))


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_against_all_alignments(reduction: str):
    words = [[0, 0, 3], [2], []]
    found, logits = said(words, [5, 3, 2])
    total = CTC(reduction=reduction).totals(Outputs(transcription=found))["ctc"]
    parts = [surprise(rows, part) for rows, part in zip(logits, words, strict=True)]
    if reduction == "mean":
        parts = [loss / max(len(part), 1) for loss, part in zip(parts, words, strict=True)]
    torch.testing.assert_close(total, torch.stack(parts).sum(), atol=1e-12, rtol=0)


def test_transcripts_too_long():
    """Two equal tokens need a blank between them: 3 frames. Infinitely surprising, or left out with its gradient."""
    found, _ = said([[2, 2]], [2])
    assert CTC().totals(Outputs(transcription=found))["ctc"] == float("inf")
    logits = found.logits.requires_grad_()
    total = CTC(zero_infinity=True).totals(Outputs(transcription=found))["ctc"]
    total.backward()
    assert total.item() == 0
    assert not logits.grad.any()


def test_nothing_said():
    assert CTC().totals(Outputs()) == {}
    found, _ = said([], [])
    assert CTC().totals(Outputs(transcription=found))["ctc"] == 0


def test_reduction():
    with pytest.raises(ConfigError, match="'sum' or 'mean', found 'none'"):
        CTC(reduction="none")
