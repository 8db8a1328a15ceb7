"""Feed-forwards against what they are made of, and the gated one against LLaMA's."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from sensorium.nn.layers.feed_forward import MLP, GatedMLP, ModalityExperts

CLOSE = {"atol": 1e-12, "rtol": 0.0}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("bias", [True, False])
def test_plain(bias: bool):
    mlp, x = MLP(width=4, hidden=6, activation="relu", bias=bias).double(), numbers(5, 4)
    assert (mlp.up.bias is not None) is (mlp.down.bias is not None) is bias
    up = x @ mlp.up.weight.T + (mlp.up.bias if bias else 0)
    torch.testing.assert_close(
        mlp(x), up.clamp(min=0) @ mlp.down.weight.T + (mlp.down.bias if bias else 0), **CLOSE
    )


def test_dropout_is_of_the_hidden_layer_in_training():
    mlp, x = MLP(width=4, hidden=1000, activation="tanh", dropout=0.25).double(), numbers(1, 4)
    hidden: list[torch.Tensor] = []
    mlp.down.register_forward_pre_hook(lambda _, given: hidden.append(given[0]))
    mlp.eval()(x)
    mlp.train()(x)
    whole, some = hidden
    kept = some != 0
    torch.testing.assert_close(some[kept], whole[kept] / 0.75, **CLOSE)
    assert 0.7 < float(kept.double().mean()) < 0.8


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("act", ["silu", "gelu_pytorch_tanh"])
def test_gated_is_that_of_llama(bias: bool, act: str):
    theirs = LlamaMLP(
        LlamaConfig(hidden_size=6, num_attention_heads=1, intermediate_size=10, mlp_bias=bias, hidden_act=act)
    ).double()
    ours = GatedMLP(width=6, hidden=10, activation=act, bias=bias).double()
    parts = {"gate_up.weight": torch.cat([theirs.gate_proj.weight, theirs.up_proj.weight])}
    parts["down.weight"] = theirs.down_proj.weight
    if bias:
        parts["gate_up.bias"] = torch.cat([theirs.gate_proj.bias, theirs.up_proj.bias])
        parts["down.bias"] = theirs.down_proj.bias
    ours.load_state_dict(parts)
    x = numbers(7, 6)
    torch.testing.assert_close(ours(x), theirs(x), **CLOSE)


def test_each_kind_has_its_expert():
    experts = ModalityExperts(width=4, hidden=6, experts=3).double()
    x, kind = numbers(8, 4), torch.tensor([2, 0, 0, 2, 0, 2, 2, 0])
    found = experts(x, kind)
    for row, own in enumerate(kind.tolist()):
        torch.testing.assert_close(found[row], experts.experts[own](x[row]), **CLOSE)
    torch.testing.assert_close(experts(x, 1), experts.experts[1](x), **CLOSE)
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in experts.parameters())  # also those of no rows
