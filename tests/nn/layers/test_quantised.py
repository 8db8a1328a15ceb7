"""Networks held in 8 bits: what is replaced, what stays tied, what is lost, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from sensorium.core import CapabilityError, ConfigError
from sensorium.core.int8 import Int8Matrix
from sensorium.core.product import linear
from sensorium.core.state import saved_tensors
from sensorium.nn.layers.fused import FusedLinear
from sensorium.nn.layers.linear import Linear
from sensorium.nn.layers.quantised import Int8Embedding, Int8Linear, Int8Weight, held_in_8_bits, quantise


class Words(nn.Module):
    """A table that is also the head, two layers, and one of another library."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(50, 16)
        self.fused = FusedLinear(width=16, parts=[8, 4, 4], biased=[True, False, True])
        self.norm = nn.LayerNorm(16)
        self.towers = nn.ModuleDict({"one": Linear(16, 16)})
        self.out = nn.Sequential(nn.Linear(16, 16, bias=False), nn.Dropout(0.5))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.fused(self.table(ids))
        x = self.towers["one"](self.out(self.norm(x)))
        return linear(x, self.table.weight)


def words(dtype: torch.dtype = torch.float32) -> Words:
    torch.manual_seed(0)
    network = Words()
    nn.init.normal_(network.fused.bias)
    return network.to(dtype)


IDS = torch.arange(12).view(3, 4)


def written_out(network: nn.Module) -> dict[str, torch.Tensor]:
    """The float weights that a quantised network stands for, under the names of the original."""
    weights = {name: tensor for name, tensor in network.state_dict().items() if "." in name}
    for name, module in network.named_modules():
        if isinstance(module, Int8Weight):
            weights[f"{name}.weight"] = module.weight.dense()
            del weights[f"{name}.values"], weights[f"{name}.scale"]
    return weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_computes_with_the_rounded_weights(dtype: torch.dtype):
    network = words(dtype).eval()
    held = quantise(network, keep=[])
    weights = written_out(held)
    weights["fused.bias"] = network.fused.bias  # which the copy holds with zeros for the part that has none
    rounded = words(dtype).eval()
    rounded.load_state_dict(weights)
    bound = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(held(IDS), rounded(IDS), atol=bound, rtol=0)
    # One step of the scale is 1/127 of the largest of 16 numbers: three layers of that lose little, and something.
    lost = (held(IDS) - network(IDS)).norm() / network(IDS).norm()
    assert 1e-4 < lost < 0.03


def test_what_is_replaced():
    network = words()
    held = quantise(network)
    assert type(held) is Words
    assert {name: type(m) for name, m in held.named_modules() if isinstance(m, Int8Weight)} == {
        "table": Int8Embedding,
        "fused": Int8Linear,
        "out.0": Int8Linear,
    }
    assert type(held.towers["one"]) is Linear
    every = quantise(network, keep=[])
    assert type(every.towers["one"]) is Int8Linear
    some = quantise(network, keep=[r"^table$", "0$"])
    assert [n for n, m in some.named_modules() if isinstance(m, Int8Weight)] == ["fused", "towers.one"]


def test_the_original_is_untouched():
    network = words()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    held = quantise(network)
    with torch.no_grad():
        for tensor in (*held.parameters(), *held.buffers()):
            tensor.zero_()
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert network.state_dict().keys() == before.keys()


def test_a_quarter_is_held():
    def size(network: nn.Module) -> int:
        return sum(tensor.nbytes for tensor in saved_tensors(network).values())

    network = nn.Sequential(nn.Embedding(1000, 256), Linear(256, 512, bias=False))
    assert size(quantise(network)) < 0.27 * size(network)


def test_what_is_tied_stays_tied():
    network = nn.ModuleDict({"table": nn.Embedding(9, 4), "head": Linear(4, 9), "again": nn.ModuleList()})
    network["head"].weight = network["table"].weight
    network["again"].append(network["head"])
    held = quantise(network)
    assert held["head"].values is held["table"].values
    assert held["again"][0] is held["head"]
    assert sorted(saved_tensors(held)) == ["head.bias", "table.scale", "table.values"]


def test_a_class_with_its_own_way_is_left():
    class Scaled(Linear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return F.linear(input, self.weight * 2)

    class Named(Linear):
        pass

    held = quantise(nn.ModuleList([Scaled(3, 3), Named(3, 3)]))
    assert [type(part) for part in held] == [Scaled, Int8Linear]


def test_state_is_saved_and_loaded(tmp_path: Path):
    held = quantise(words())
    save_file(saved_tensors(held), tmp_path / "held.safetensors")
    torch.manual_seed(1)
    other = held_in_8_bits(Words())
    assert not torch.equal(other(IDS), held(IDS))
    other.load_state_dict(load_file(tmp_path / "held.safetensors"))
    assert torch.equal(other(IDS), held(IDS))
    other = held_in_8_bits(Words())
    other.load_state_dict(load_file(tmp_path / "held.safetensors"), assign=True)
    assert torch.equal(other(IDS), held(IDS))


def test_other_types_after_quantising():
    held = quantise(words())
    wide = quantise(words()).double()
    assert wide.table.values.dtype == torch.int8
    torch.testing.assert_close(wide(IDS), held(IDS).double(), atol=1e-5, rtol=0)
    assert quantise(words()).bfloat16()(IDS).dtype == torch.bfloat16


def test_it_does_not_learn():
    held = quantise(words())
    assert not held.training
    assert not any(parameter.requires_grad for parameter in held.parameters())
    held.eval()
    with pytest.raises(CapabilityError, match="8 bits do not learn"):
        held.train()


def test_what_cannot_be():
    network = words()
    with pytest.raises(ConfigError, match="'trunk' matches no linear layer and no table"):
        quantise(network, keep=["trunk"])
    with pytest.raises(ConfigError, match=r"'\(' is not a regular expression"):
        quantise(network, keep=["("])
    with pytest.raises(ConfigError, match="nothing of this Words is left"):
        quantise(network, keep=["."])
    with pytest.raises(ConfigError, match="nothing of this"):
        quantise(quantise(network, keep=[]))
    with torch.no_grad():
        network.out[0].weight[3, 2] = float("nan")
    with pytest.raises(ConfigError, match=r"out\.0\.weight: a number that is not finite"):
        quantise(network)
    assert isinstance(quantise(network, keep=["^out"]).out[0], nn.Linear)


def test_a_weight_is_a_matrix():
    held = quantise(words())
    assert isinstance(held.table.weight, Int8Matrix)
    assert len(held.table.weight) == 50
    assert held.fused.weight.shape == (16, 16)
