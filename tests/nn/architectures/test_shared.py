"""One encoder for everything: a segment is read by itself, by the same weights as every other."""

from __future__ import annotations

import pytest
import torch
from nn.toys import VOCABULARY, WIDTH, batch, sample
from torch import nn
from torch.nn.functional import normalize

from sensorium.core import ConfigError
from sensorium.nn.architectures.shared import Shared
from sensorium.nn.encoders.grid import GridEncoder
from sensorium.nn.encoders.stems import LinearStem
from sensorium.nn.encoders.tokens import TokenEncoder
from sensorium.nn.heads.similarity import Similarity
from sensorium.nn.layers.blocks import block
from sensorium.nn.layers.norms import LayerNorm
from sensorium.nn.layers.transformer import Transformer
from sensorium.objectives import Contrastive
from sensorium.training.distributed import World
from sensorium.training.step import Learner, Step

BATCH = batch([sample(0), sample(1, ("picture", "caption")), sample(2, ("wave", "caption", "turn"))])


def shared(width: int = WIDTH, language: str | None = "words") -> Shared:
    torch.manual_seed(0)
    part = block(width=WIDTH, heads=2, hidden=2 * WIDTH)
    return Shared(
        encoders={
            "picture": GridEncoder(stem=LinearStem(patch=[4, 4], channels=3, width=WIDTH)),
            "wave": GridEncoder(stem=LinearStem(patch=[2], channels=5, width=WIDTH)),
            "words": TokenEncoder(vocabulary=VOCABULARY, width=width, mask_id=3),
        },
        trunk=Transformer(width=WIDTH, depth=2, block=part),
        norm=LayerNorm(width=WIDTH),
        similarity=Similarity(),
        language=language,
    ).double()


@torch.no_grad()
def test_a_segment_is_what_becomes_of_the_special_token():
    network = shared()
    for name, stream in BATCH.streams.items():
        found = network.read(name, stream)
        firsts = torch.stack([rows[0] for rows in found.segments()])
        assert torch.equal(found.pooled, firsts)
        torch.testing.assert_close(network.embed(name, stream), normalize(firsts, dim=-1))
        for index, rows in enumerate(found.segments()):
            alone = stream.select(torch.tensor([index]))
            whole = int(stream.lengths[index])
            alone = network.read(name, type(alone)(**vars(alone) | {"values": alone.values[:, :whole]}))
            torch.testing.assert_close(alone.rows, rows)


@torch.no_grad()
def test_only_what_describes_the_sample_is_contrasted():
    found = shared()(BATCH)
    assert {name: one.owner.tolist() for name, one in found.embeddings.items()} == {
        "picture": [0, 1],
        "wave": [0, 2],
        "words": [0, 1, 2],
    }
    assert found.scale is not None


def _gradients(network: nn.Module, *parts) -> dict[str, torch.Tensor]:
    Step(Learner(network, {}), {}, Contrastive(), World())(list(parts))
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def test_every_part_learns_whatever_a_batch_lacks():
    """So that processes with different data agree on what they exchange."""
    network = shared()
    found = _gradients(network, batch([sample(i, ("picture", "caption")) for i in range(3)]))
    assert found.keys() == dict(network.named_parameters()).keys()
    still = {name for name, gradient in found.items() if not bool(gradient.any())}
    assert still <= {
        name for name in found if name.startswith("encoders.wave") or name.endswith("mask_token")
    }


def test_parts_that_do_not_fit():
    with pytest.raises(ConfigError, match="the words encoder has width 8, the trunk 16"):
        shared(width=8)
    with pytest.raises(ConfigError, match="language names 'speech'"):
        shared(language="speech")
