"""What stands between a layer and its stream: scales, and layers left out for whole sequences."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sensorium.nn.layers.drop_path import Dropout, LayerScale, drop_path
from sensorium.nn.layers.packing import Packing, dense, packing

REAL = torch.arange(5) < torch.tensor([3, 0, 5, 1])[:, None]
RAGGED = packing(REAL)


def rows(count: int) -> Tensor:
    return torch.randn(count, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 9


def test_layer_scale():
    scale = LayerScale(width=3, value=0.25)
    assert scale.weight.tolist() == [0.25] * 3
    with torch.no_grad():
        scale.weight.copy_(torch.tensor([1.0, 2.0, -3.0]))
    assert scale(torch.ones(2, 3)).tolist() == [[1.0, 2.0, -3.0]] * 2


def test_dropout_is_for_training():
    dropout, x = Dropout(rate=0.5), torch.ones(1000)
    assert set(dropout(x).tolist()) == {0.0, 2.0}
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.parametrize(("place", "count"), [(RAGGED, 9), (dense(4, 3), 12)])
def test_whole_sequences_are_left_out_and_the_others_scaled(place: Packing, count: int):
    torch.manual_seed(0)
    x = rows(count)
    owner = place.owners(x.device)
    seen = set()
    for _ in range(30):
        found = drop_path(x, place, 0.25)
        for sequence in owner.unique().tolist():
            own = owner == sequence
            dropped = not found[own].any()
            seen.add((sequence, dropped))
            torch.testing.assert_close(found[own], x[own] * (0 if dropped else 1 / 0.75), atol=1e-12, rtol=0)
    assert seen == {(sequence, dropped) for sequence in owner.unique().tolist() for dropped in (True, False)}


def test_sequences_are_drawn_apart_and_the_mean_stays():
    torch.manual_seed(0)
    place = dense(4000, 1)
    found = drop_path(torch.ones(4000, 1, dtype=torch.float64), place, 0.25)
    assert abs(float(found.mean()) - 1) < 0.03
    assert 0.22 < float((found == 0).double().mean()) < 0.28


def test_gradients_reach_what_was_kept():
    torch.manual_seed(0)
    x = rows(12).requires_grad_()
    found = drop_path(x, dense(4, 3), 0.5)
    found.sum().backward()
    torch.testing.assert_close(x.grad, (found / x).detach())
    assert drop_path(rows(0), dense(0, 3), 0.5).shape == (0, 2)
