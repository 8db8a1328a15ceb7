"""What is kept for others' files takes no part."""

from __future__ import annotations

import torch

from sensorium.core.state import saved_tensors
from sensorium.nn.heads.keeping import Keeping
from sensorium.nn.heads.pooling import FirstToken


def test_the_part_is_computed_and_the_rest_is_saved():
    kept = Keeping(part=FirstToken(), width=4)
    rows, lengths = torch.randn(5, 4), torch.tensor([2, 3])
    torch.nn.init.normal_(kept.weight)
    assert torch.equal(kept(rows, lengths), rows[[0, 2]])
    assert not list(kept.parameters())
    assert {name: tuple(value.shape) for name, value in saved_tensors(kept).items()} == {
        "weight": (4, 4),
        "bias": (4,),
    }
