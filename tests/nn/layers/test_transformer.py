"""A stack of blocks: in parts, with growing rates, and how its weights begin."""

from __future__ import annotations

import pytest
import torch

from sensorium.core import ConfigError, Spec
from sensorium.nn.layers.blocks import block
from sensorium.nn.layers.feed_forward import GatedMLP, ModalityExperts
from sensorium.nn.layers.masks import causal, everything
from sensorium.nn.layers.packing import dense
from sensorium.nn.layers.relative import RelativeTable
from sensorium.nn.layers.transformer import Transformer

CLOSE = {"atol": 1e-12, "rtol": 0.0}


def stack(width: int = 12, depth: int = 3, **how) -> Transformer:
    torch.manual_seed(0)
    drop_path = how.pop("drop_path", 0.0)
    part = block(width=width, heads=3, hidden=2 * width, **how)
    return Transformer(width=width, depth=depth, block=part, drop_path=drop_path).double()


@pytest.mark.parametrize(
    ("depth", "rates"), [(5, [0.0, 0.1, 0.2, 0.3, 0.4]), (2, [0.0, 0.4]), (1, [0.0]), (0, [])]
)
def test_rates_grow_to_the_last_block(depth: int, rates: list[float]):
    assert [block.rate for block in stack(depth=depth, drop_path=0.4).blocks] == pytest.approx(rates)
    assert not any(block.rate for block in stack(depth=depth).blocks)


def test_it_can_be_run_in_parts():
    trunk, x = stack(), torch.randn(10, 12, dtype=torch.float64)
    place, mask = dense(2, 5), causal()
    whole = trunk(x, place, mask)
    part = trunk(x, place, mask, stop=1)
    torch.testing.assert_close(part, trunk.blocks[0](x, place, mask), **CLOSE)
    torch.testing.assert_close(trunk(part, place, mask, start=1), whole, **CLOSE)
    assert torch.equal(trunk(x, place, mask, start=3), x)


def test_with_caches_the_last_token_is_enough():
    trunk, x = stack(), torch.randn(2, 5, 12, dtype=torch.float64)
    whole = trunk(x.flatten(0, 1), dense(2, 5), causal()).unflatten(0, (2, 5))
    caches = trunk.caches()
    trunk(x[:, :4].flatten(0, 1), dense(2, 4), causal(), caches=caches)
    last = trunk(x[:, 4], dense(2, 1), causal(), caches=caches)
    torch.testing.assert_close(last, whole[:, 4], **CLOSE)
    assert [cache.length for cache in caches] == [5, 5, 5]


def test_weights_begin_small_and_smaller_the_deeper():
    trunk = stack(width=300, depth=8)
    for part in trunk.blocks:
        layers = {
            "qkv": (part.attention.qkv, 300, 1),
            "out": (part.attention.out, 300, 16),
            "up": (part.feed_forward.up, 300, 1),
            "down": (part.feed_forward.down, 600, 16),
        }
        for name, (layer, inputs, share) in layers.items():
            assert float(layer.weight.detach().std()) == pytest.approx((inputs * share) ** -0.5, rel=0.02), (
                name
            )
            assert not layer.bias.any()
        assert (part.norm_attention.weight == 1).all()


def test_only_linear_layers_are_drawn_anew():
    """Positions begin as they say they do."""
    trunk = stack(relative=Spec(RelativeTable, grid=[2, 2], heads=3))
    assert not trunk.blocks[0].attention.relative.weight.any()
    gated = block(width=12, heads=3, hidden=24, biases="").replace(
        feed_forward=Spec(GatedMLP, width=12, hidden=500)
    )
    made = Transformer(width=12, depth=2, block=gated)
    spread = float(made.blocks[0].feed_forward.gate_up.weight.detach().std())
    assert spread == pytest.approx(12**-0.5, rel=0.05)
    experts = block(width=12, heads=3, hidden=24).replace(
        feed_forward=Spec(ModalityExperts, width=12, hidden=400, experts=2)
    )
    down = Transformer(width=12, depth=2, block=experts).blocks[0].feed_forward.experts[1].down
    assert float(down.weight.detach().std()) == pytest.approx(0.5 * 400**-0.5, rel=0.05)


def test_a_stack_of_nothing_and_of_less():
    x = torch.randn(4, 12, dtype=torch.float64)
    assert torch.equal(stack(depth=0)(x, dense(2, 2), everything()), x)
    with pytest.raises(ConfigError, match="a depth of at least 0, found -1"):
        stack(depth=-1)


def test_recomputing_changes_no_gradient():
    """Not even with dropout, which is drawn again as it was."""
    x = torch.randn(10, 12, dtype=torch.float64)
    found = []
    for recompute in (False, True):
        trunk = stack(drop_path=0.4, dropout=0.3).train()
        trunk.recompute = recompute
        torch.manual_seed(5)
        trunk(x, dense(2, 5), causal()).square().sum().backward()
        found.append([parameter.grad for parameter in trunk.parameters()])
    for plain, again in zip(*found, strict=True):
        torch.testing.assert_close(again, plain, **CLOSE)


def test_blocks_in_turn():
    kinds = [block(width=12, heads=3, hidden=hidden) for hidden in (24, 36)]
    trunk = Transformer(width=12, depth=5, block=kinds)
    hidden = [len(one.feed_forward.up.weight) for one in trunk.blocks]
    assert hidden == [24, 36, 24, 36, 24]
    with pytest.raises(ConfigError, match="an empty list"):
        Transformer(width=12, depth=1, block=[])
