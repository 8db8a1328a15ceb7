"""The mixture of experts against those of transformers, and against one expert after the other."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Qwen2MoeConfig, Qwen3MoeConfig
from transformers.models.qwen2_moe import modeling_qwen2_moe
from transformers.models.qwen3_moe import modeling_qwen3_moe

from sensorium.core import ConfigError
from sensorium.nn.layers.experts import Experts, routes

CLOSE = {"atol": 1e-10, "rtol": 0.0}
SIZES = {"hidden_size": 6, "moe_intermediate_size": 4, "num_experts": 5, "num_experts_per_tok": 2}


class _Exact:
    """``torch`` for a module of transformers that is not to round to single precision."""

    float = torch.float64

    def __getattr__(self, name: str) -> object:
        return getattr(torch, name)


def theirs(shared: bool, normalised: bool, monkeypatch: pytest.MonkeyPatch) -> nn.Module:
    module = modeling_qwen2_moe if shared else modeling_qwen3_moe
    monkeypatch.setattr(module, "torch", _Exact())
    if shared:
        config = Qwen2MoeConfig(**SIZES, shared_expert_intermediate_size=3, norm_topk_prob=normalised)
        block = module.Qwen2MoeSparseMoeBlock(config)
    else:
        block = module.Qwen3MoeSparseMoeBlock(Qwen3MoeConfig(**SIZES, norm_topk_prob=normalised))
    torch.manual_seed(0)
    for parameter in block.parameters():
        nn.init.normal_(parameter)
    return block.double()


def ours(block: nn.Module, shared: bool, normalised: bool) -> Experts:
    made = Experts(
        width=6, hidden=4, experts=5, chosen=2, normalised=normalised, shared=3 if shared else None
    ).double()
    made.load_state_dict(renamed(dict(block.named_parameters())))
    return made


def renamed(parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of parameters or of gradients."""
    found = {
        "router.weight": parts["gate.weight"],
        "gate_up": parts["experts.gate_up_proj"],
        "down": parts["experts.down_proj"],
    }
    if "shared_expert_gate.weight" in parts:
        gate, up = (parts[f"shared_expert.{name}_proj.weight"] for name in ("gate", "up"))
        found |= {
            "shared.gate_up.weight": torch.cat([gate, up]),
            "shared.down.weight": parts["shared_expert.down_proj.weight"],
            "shared_gate.weight": parts["shared_expert_gate.weight"],
        }
    return found


def rows(count: int) -> Tensor:
    return torch.randn(count, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("shared", [True, False], ids=["Qwen2-MoE", "Qwen3-MoE"])
@pytest.mark.parametrize("count", [1, 11])
def test_it_is_that_of_transformers(
    shared: bool, normalised: bool, count: int, monkeypatch: pytest.MonkeyPatch
):
    block = theirs(shared, normalised, monkeypatch)
    made = ours(block, shared, normalised)
    x, y = (rows(count).requires_grad_() for _ in range(2))
    expected, found = block(x[None])[0], made(y)
    torch.testing.assert_close(found, expected, **CLOSE)
    expected.pow(3).sum().backward()
    found.pow(3).sum().backward()
    torch.testing.assert_close(y.grad, x.grad, **CLOSE)
    gradients = renamed({name: parameter.grad for name, parameter in block.named_parameters()})
    for name, parameter in made.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], **CLOSE)


@pytest.mark.parametrize("normalised", [True, False])
def test_each_token_gets_the_sum_of_its_experts(normalised: bool):
    made = Experts(width=6, hidden=4, experts=7, chosen=3, activation="gelu", normalised=normalised).double()
    x = rows(9)
    found = made(x)
    for row, own in zip(x, found, strict=True):
        shares, chosen = (made.router.weight @ row).softmax(0).sort(descending=True)
        total = shares[:3].sum() if normalised else 1.0
        expected = torch.zeros_like(row)
        for share, index in zip(shares[:3], chosen[:3], strict=True):
            gate, up = made.gate_up[index].chunk(2)
            expected = expected + share / total * made.down[index] @ (F.gelu(gate @ row) * (up @ row))
        torch.testing.assert_close(own, expected, **CLOSE)


@pytest.mark.parametrize("count", [0, 1])
def test_every_weight_takes_part_whoever_is_chosen(count: int):
    made = Experts(width=6, hidden=4, experts=7, chosen=2, shared=3).double()
    found = made(rows(count))
    assert found.shape == (count, 6)
    found.sum().backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.shape == parameter.shape
    touched = made.down.grad.flatten(1).any(1).sum()
    assert touched == 2 * count


def test_a_token_does_not_depend_on_the_others():
    made, x = Experts(width=6, hidden=4, experts=4, chosen=2).double(), rows(8)
    torch.testing.assert_close(torch.cat([made(row[None]) for row in x]), made(x), **CLOSE)


def test_routes_are_heard_by_who_asks_alone():
    first, second = (Experts(width=6, hidden=4, experts=e, chosen=2).double() for e in (4, 5))
    x = rows(3)
    first(x)
    with routes() as outer:
        first(x)
        with routes() as found:
            second(first(x))
    first(x)
    assert [one.logits.shape for one in found] == [(3, 4), (3, 5)]
    assert len(outer) == 1
    torch.testing.assert_close(found[0].logits, first.router(x))
    assert torch.equal(found[0].chosen, found[0].logits.topk(2).indices)
    assert found[0].logits.requires_grad


@pytest.mark.parametrize("chosen", [0, 5])
def test_an_impossible_choice_is_refused(chosen: int):
    with pytest.raises(ConfigError, match=f"of 4 experts .* found chosen={chosen}"):
        Experts(width=6, hidden=4, experts=4, chosen=chosen)
