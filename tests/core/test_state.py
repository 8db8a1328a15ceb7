"""What of a network is saved, and forward passes that leave no trace in it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sensorium.core.state import (
    copied_buffers,
    persistent_buffers,
    put_back,
    saved_tensors,
    unchanged_buffers,
)


class Net(nn.Module):
    """Two norms, of which one has two names, and a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        self.again = self.two
        self.register_buffer("cache", torch.zeros(2), persistent=False)

    def forward(self, x):
        return self.two(self.one(x))


STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def test_running_statistics_are_saved_and_caches_are_not():
    net = Net()
    assert set(persistent_buffers(net)) == {
        f"{norm}.{name}" for norm in ("one", "two") for name in STATISTICS
    }
    assert set(saved_tensors(net)) - set(persistent_buffers(net)) == {
        f"{norm}.{name}" for norm in ("one", "two") for name in ("weight", "bias")
    }
    assert persistent_buffers(net)["one.running_mean"] is net.one.running_mean
    assert persistent_buffers(nn.Linear(2, 2)) == {}


def test_passes_within_leave_no_trace_even_if_one_fails():
    net, x = Net(), torch.randn(4, 3)
    net(x)
    before = copied_buffers(net)

    def fail():
        with unchanged_buffers(net):
            net(x)
            assert not torch.equal(net.two.running_mean, before["two.running_mean"])
            net(x[:1])

    with pytest.raises(ValueError, match="more than 1 value"):
        fail()
    for name, value in persistent_buffers(net).items():
        assert torch.equal(value, before[name]), name
    net(x)
    assert int(net.one.num_batches_tracked) == 2


def test_a_buffer_that_a_pass_replaces_is_put_back_too():
    net = nn.Module()
    net.register_buffer("count", torch.zeros(()))
    kept = copied_buffers(net)
    net.count = net.count + 1
    put_back(net, kept)
    assert float(net.count) == 0
