"""The balance of experts against the loss of transformers."""

from __future__ import annotations

import pytest
import torch
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from sensorium.core import Batch
from sensorium.core.outputs import Outputs, Route, Routes
from sensorium.objectives import BalancedExperts

CLOSE = {"atol": 1e-6, "rtol": 1e-6}  # theirs is in single precision
EXPERTS, CHOSEN = 7, 2


def routes(owner: list[int], layers: int = 3) -> Routes:
    generator = torch.Generator().manual_seed(0)
    drawn = [
        torch.randn(len(owner), EXPERTS, generator=generator, dtype=torch.float64) for _ in range(layers)
    ]
    logits = [one.mul(2).requires_grad_() for one in drawn]
    chosen = tuple(Route(one, one.topk(CHOSEN).indices) for one in logits)
    return Routes(chosen, torch.tensor(owner, dtype=torch.long))


def theirs(found: Routes, rows: torch.Tensor) -> torch.Tensor:
    logits = tuple(layer.logits for layer in found.layers)
    return load_balancing_loss_func(logits, EXPERTS, CHOSEN, rows[None].long()).double()


def test_of_each_sample_it_is_that_of_transformers():
    found = routes([0, 0, 0, 2, 2, 1, 1, 1, 1, 2])
    total = BalancedExperts().totals(Outputs(routes=found))["experts"]
    expected = sum(theirs(found, found.owner == sample) for sample in range(3))
    torch.testing.assert_close(total, expected, **CLOSE)
    leaves = [layer.logits for layer in found.layers]
    for ours, other in zip(
        torch.autograd.grad(total, leaves), torch.autograd.grad(expected, leaves), strict=True
    ):
        torch.testing.assert_close(ours, other, **CLOSE)


def test_together_it_is_that_of_transformers_for_the_batch():
    found = routes([0, 0, 0, 2, 2, 1, 1, 1, 1, 2])
    total = BalancedExperts(together=True).totals(Outputs(routes=found))["experts"]
    torch.testing.assert_close(total / 3, theirs(found, torch.ones(10)), **CLOSE)


def test_samples_add_up():
    found = routes([0, 0, 0, 1, 1, 1, 1, 1])
    parts = [
        Routes(
            tuple(Route(layer.logits[rows], layer.chosen[rows]) for layer in found.layers), found.owner[rows]
        )
        for rows in (slice(3), slice(3, 8))
    ]
    whole, *others = (BalancedExperts().totals(Outputs(routes=one))["experts"] for one in (found, *parts))
    torch.testing.assert_close(sum(others), whole)


def test_equally_busy_experts_have_the_least():
    logits = torch.eye(4, dtype=torch.float64).repeat(3, 1)
    even = Routes((Route(logits, logits.topk(1).indices),), torch.zeros(12, dtype=torch.long))
    one = torch.tensor([[9.0, 0, 0, 0]], dtype=torch.float64).repeat(12, 1)
    same = Routes((Route(one, one.topk(1).indices),), torch.zeros(12, dtype=torch.long))
    least, most = (float(BalancedExperts().totals(Outputs(routes=x))["experts"]) for x in (even, same))
    assert least == pytest.approx(1)
    assert most == pytest.approx(4, abs=1e-2)


def test_without_experts_or_tokens_there_is_nothing():
    assert BalancedExperts().totals(Outputs()) == {}
    assert BalancedExperts().totals(Outputs(routes=Routes((), torch.arange(3)))) == {}
    for together in (True, False):
        found = routes([])
        total = BalancedExperts(together=together).totals(Outputs(routes=found))["experts"]
        assert total.item() == 0
        assert total.requires_grad


def test_counts_are_samples():
    assert BalancedExperts().counts(Batch({}, ("a", "b"), torch.arange(2))) == {"experts": 2}
