"""Networks whose weights come from a file: allocated, neither drawn nor touched, and otherwise the same."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sensorium.nn.layers.fused import FusedLinear
from sensorium.nn.layers.positions import Waves
from sensorium.nn.layers.relative import RelativeTable
from sensorium.nn.skeleton import Skeleton


class Parts(nn.Module):
    """Draws in every way that parts of networks do, and computes besides."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(3, 4), nn.LayerNorm(4)
        self.table, self.maps = nn.Embedding(5, 4), nn.Conv2d(3, 4, 2)
        self.fused = FusedLinear(width=4, parts=[2, 2], biased=[True, False])
        self.query = nn.Parameter(torch.randn(4, dtype=torch.float64) * 0.02)
        self.codes = nn.Parameter(torch.rand(2, 3))
        nn.init.normal_(self.table.weight, std=0.02)
        nn.init.kaiming_normal_(self.maps.weight)
        self.codes.data.uniform_(-1, 1)
        self.waves = Waves(length=6, width=4)
        self.relative = RelativeTable(grid=[2, 3], heads=2)
        self.register_buffer("counted", torch.arange(6).reshape(2, 3).float().mean(1))


def test_the_same_structure_and_no_draw():
    before = torch.get_rng_state()
    with Skeleton():
        made = Parts()
    assert torch.equal(torch.get_rng_state(), before)
    drawn = Parts()
    assert not torch.equal(torch.get_rng_state(), before)
    for kind in ("named_parameters", "named_buffers"):
        found, expected = dict(getattr(made, kind)()), dict(getattr(drawn, kind)())
        assert found.keys() == expected.keys()
        for name, tensor in expected.items():
            assert (found[name].shape, found[name].dtype) == (tensor.shape, tensor.dtype), name
            assert found[name].requires_grad == tensor.requires_grad
            assert type(found[name]) is type(tensor)


def test_what_is_computed_is_real():
    with Skeleton():
        made = Parts()
    for name, buffer in Parts().named_buffers():
        assert torch.equal(dict(made.named_buffers())[name], buffer), name


def test_loaded_it_computes_the_same():
    with Skeleton():
        made = Parts()
    drawn = Parts()
    made.load_state_dict(drawn.state_dict(), assign=True)
    x = torch.randn(2, 3)
    assert torch.equal(made.norm(made.linear(x)), drawn.norm(drawn.linear(x)))


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: x.normal_(),
        lambda x: x.uniform_(-1, 1),
        lambda x: nn.init.normal_(x),
        lambda x: nn.init.uniform_(x),
        lambda x: nn.init.xavier_uniform_(x),
        lambda x: nn.init.kaiming_normal_(x),
        lambda x: nn.init.uniform_(tensor=x, a=-1.0),
    ],
)
def test_drawing_in_place_leaves_what_was_there(draw: Callable[[Tensor], Tensor]):
    x = torch.full((3, 4), 7.0)
    with Skeleton():
        assert draw(x) is x
    assert (x == 7).all()
    draw(x)
    assert not (x == 7).any()


def test_outside_all_is_as_before():
    with Skeleton():
        pass
    torch.manual_seed(0)
    first = torch.randn(3)
    torch.manual_seed(0)
    assert torch.equal(nn.init.normal_(torch.empty(3)), first)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the memory in use from /proc")
def test_memory_is_not_touched():
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident()
    with Skeleton():
        made = [
            nn.Linear(4000, 10_000),
            nn.Embedding(10_000, 4000),
            FusedLinear(width=4000, parts=[5000] * 2, biased=[False] * 2),
        ]
        nn.init.xavier_uniform_(made[0].weight)
        query = torch.randn(10_000, 4000)
    assert len(made) == 3
    assert query.shape == (10_000, 4000)
    assert resident() - before < 20_000_000  # of 640 million bytes
