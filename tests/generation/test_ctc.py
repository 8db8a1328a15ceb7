"""The best token of each frame, by recording."""

from __future__ import annotations

import torch

from sensorium.generation.ctc import best_path


def test_by_recording():
    logits = torch.eye(4)[[2, 2, 0, 3, 1]]
    assert best_path(logits, torch.tensor([3, 0, 2])) == [[2, 2, 0], [], [3, 1]]
