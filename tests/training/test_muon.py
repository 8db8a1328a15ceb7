"""Muon takes the matrices of the blocks, AdamW the rest, and both resume."""

from __future__ import annotations

import pytest
import torch
from nn.toys import batch, model, sample

from sensorium.core import ConfigError
from sensorium.training.muon import Muon, Orthogonal, orthogonal
from sensorium.training.optimizer import AdamW, set_rate
from sensorium.training.rules import Rule


def _train(net, optimizer, steps):
    losses = []
    for _ in range(steps):
        set_rate(optimizer, 4e-3)
        found = net(batch([sample(i) for i in range(8)])).language
        loss = torch.nn.functional.cross_entropy(found.logits, found.target)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def test_every_parameter_has_one_optimizer():
    net = model()
    optimizer = Muon().make(net.named_parameters(), [])
    muon, adamw = ([p for g in part.param_groups for p in g["params"]] for part in optimizer.parts)
    names = {id(p): name for name, p in net.named_parameters()}
    assert all("blocks" in names[id(p)] and p.ndim == 2 for p in muon)
    assert len(muon) == 3 * 4
    assert {id(p) for p in muon} | {id(p) for p in adamw} == set(names)
    assert not {id(p) for p in muon} & {id(p) for p in adamw}


def test_it_learns_and_sets_both_rates():
    net = model()
    optimizer = Muon(others=AdamW(lr=1e-3)).make(net.named_parameters(), [])
    losses = _train(net, optimizer, 12)
    assert losses[-1] < 0.8 * losses[0]
    assert {round(group["lr"], 6) for group in optimizer.param_groups} == {4e-3, 1e-3}


def test_rules_freeze_and_slow_down():
    net = model()
    rules = [Rule("blocks.0", rate=0.0), Rule("blocks.1", rate=0.5)]
    optimizer = Muon().make(net.named_parameters(), rules)
    frozen = net.trunk.blocks[0].attention.qkv.weight.clone()
    _train(net, optimizer, 2)
    assert torch.equal(net.trunk.blocks[0].attention.qkv.weight, frozen)
    assert {group["rate"] for group in optimizer.parts[0].param_groups} == {1.0, 0.5}


def test_no_matrix_is_an_error():
    with pytest.raises(ConfigError, match="no matrix"):
        Muon().make([("head.weight", torch.nn.Parameter(torch.zeros(2, 2)))], [])


@pytest.mark.parametrize("shape", [(3, 8, 20), (3, 20, 8), (1, 6, 6)])
def test_orthogonal_keeps_the_directions_and_levels_the_singular_values(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = orthogonal(matrices)
    u, _, v = torch.linalg.svd(matrices, full_matrices=False)
    values = (u.mT @ found @ v.mT).diagonal(dim1=1, dim2=2)
    assert values.min() > 0.3
    assert values.max() < 1.3


def test_the_update_is_that_of_torch():
    """torch iterates in bfloat16, hence the tolerance."""
    torch.manual_seed(0)
    ours, theirs = (torch.nn.Parameter(torch.eye(6, 10)) for _ in range(2))
    one = Orthogonal([{"params": [ours], "weight_decay": 0.1}], lr=0.02, momentum=0.95)
    two = torch.optim.Muon([theirs], lr=0.02, momentum=0.95, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        ours.grad = torch.randn(6, 10)
        theirs.grad = ours.grad.clone()
        one.step()
        two.step()
    torch.testing.assert_close(ours.detach(), theirs.detach(), atol=2e-3, rtol=0.0)
