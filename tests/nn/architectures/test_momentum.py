"""A momentum copy follows slowly, and queues hold what it made of earlier batches, newest last."""

from __future__ import annotations

import pytest
import torch
from nn.toys import batch, model, sample
from torch import nn
from training.kit import exact

from sensorium.core import ConfigError
from sensorium.nn.architectures.momentum import Momentum
from sensorium.objectives import Contrastive
from sensorium.training.distributed import World
from sensorium.training.step import Learner, Step

NAMES = ["picture", "words"]


@pytest.fixture(autouse=True)
def _no_rounding():
    with exact():
        yield


def _momentum(size: int = 5, decay: float = 0.9) -> Momentum:
    return Momentum(network=model(), names=NAMES, embedding=8, size=size, decay=decay).train()


def _batch(*numbers: int):
    return batch([sample(number, ("picture", "caption")) for number in numbers])


def _step(network: nn.Module, *parts) -> dict[str, torch.Tensor]:
    network.zero_grad()
    loss, _ = Step(Learner(network, {}), {}, Contrastive(), World())(list(parts))
    return {"loss": loss} | {
        name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None
    }


def test_the_copy_starts_equal_and_follows_by_its_decay():
    network = _momentum()
    assert all(torch.equal(p, network.slow.get_buffer(n)) for n, p in network.network.named_parameters())
    old = {name: value.clone() for name, value in network.slow.named_buffers()}
    with torch.no_grad():
        for parameter in network.network.parameters():
            parameter += 1
    _step(network, _batch(0, 1))
    for name, value in network.slow.named_buffers():
        torch.testing.assert_close(value, old[name] + 0.1)


def test_queues_hold_the_newest_keys_in_order_and_are_negatives_of_the_next_batch():
    network = _momentum(decay=1.0)
    keys = [network.slow(_batch(*numbers)).embeddings for numbers in ((0, 1, 2), (3, 4, 5))]
    empty = network(_batch(0, 1, 2)).queue
    assert [len(empty[name]) for name in NAMES] == [0, 0]
    first = _step(network, _batch(0, 1, 2))
    torch.testing.assert_close(first["loss"], _step(model(), _batch(0, 1, 2))["loss"])
    assert len(network(_batch(6)).queue["words"]) == 3
    second = _step(network, _batch(3, 4, 5))
    assert second["loss"] > _step(model(), _batch(3, 4, 5))["loss"], "there are more negatives"
    for name in NAMES:
        wanted = torch.cat([one[name].vectors for one in keys])[-5:]
        torch.testing.assert_close(network(_batch(6)).queue[name], wanted.detach())


def test_micro_batches_equal_one_batch_queues_included():
    whole, cut = _momentum(), _momentum()
    for numbers in ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)):
        found = _step(cut, _batch(*numbers[:1]), _batch(*numbers[1:]))
        torch.testing.assert_close(found, _step(whole, _batch(*numbers)))
        torch.testing.assert_close(dict(cut.named_buffers()), dict(whole.named_buffers()))


def test_everything_but_the_network_is_saved_as_buffers_and_silent_in_use():
    network = _momentum()
    assert {n for n, _ in network.named_parameters()} == {
        f"network.{n}" for n, _ in model().named_parameters()
    }
    assert network.state_dict().keys() >= {"queue_words", "filled", "slow.contrastive_head.log_scale"}
    assert not network.slow.training
    found = network.eval()(_batch(0, 1))
    assert not found.queue
    assert not found.keys
    stream = _batch(0).streams["words"]
    assert torch.equal(network.embed("words", stream), model().embed("words", stream))


def test_wrong_sizes_are_refused():
    with pytest.raises(ConfigError, match=r"size must be at least 1 and decay from 0 to 1, found 0 and 0.9"):
        _momentum(size=0)
