"""The encoder-decoder language model: what it keeps of what it read."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sensorium.core import Spec
from sensorium.nn.decoders.language_model import WordEmbedding
from sensorium.nn.decoders.seq2seq import CrossBlock, Reader, Seq2Seq
from sensorium.nn.layers.attention import CrossAttention
from sensorium.nn.layers.blocks import block
from sensorium.nn.layers.masks import causal
from sensorium.nn.layers.norms import RMSNorm
from sensorium.nn.layers.packing import dense, packing, real_places
from sensorium.nn.layers.relative import BucketBias
from sensorium.nn.layers.transformer import Transformer

WIDTH, HEADS = 12, 3


@pytest.fixture
def model() -> Seq2Seq:
    torch.manual_seed(0)
    one = block(width=WIDTH, heads=HEADS, hidden=16)
    cross = Spec(CrossAttention, width=WIDTH, context_width=WIDTH, heads=HEADS)
    other = Spec(CrossBlock, cross=cross, **one.arguments)
    reader = Reader(
        trunk=Transformer(width=WIDTH, depth=2, block=one),
        norm=RMSNorm(width=WIDTH),
        distances=BucketBias(heads=HEADS, buckets=4, farthest=6),
    )
    found = Seq2Seq(
        embedding=WordEmbedding(vocabulary=20, width=WIDTH),
        reader=reader,
        trunk=Transformer(width=WIDTH, depth=3, block=other),
        norm=RMSNorm(width=WIDTH),
        distances=BucketBias(heads=HEADS, buckets=4, farthest=6, causal=True),
        start=7,
    ).double()
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.5)
    return found.eval()


@torch.no_grad()
def test_what_was_read_is_computed_once_and_goes_with_its_sequence(model: Seq2Seq):
    """Sequences are repeated and reordered halfway, and go on as if each had been read for itself."""
    lengths = torch.tensor([4, 7])
    real = real_places(lengths, 7)
    read, written = torch.randn(11, WIDTH).double(), torch.randint(0, 20, (2, 5))
    place, rows = packing(real), torch.tensor([1, 0, 1])
    memories = model.memories(read, place, real, room=5)
    reads: list[int] = []
    model.reader.register_forward_hook(lambda *_: reads.append(1))
    for cross in (part.cross for part in model.trunk.blocks):
        cross.kv.register_forward_hook(lambda *_: reads.append(1))
    for token in range(5):
        if token == 2:
            for memory in memories:
                memory.select(rows)
            written = written[rows]
        x = model.embedding(written[:, token])
        last = model(x, dense(len(x), 1), causal(), caches=memories)
    assert not reads
    for row, sequence in enumerate(rows.tolist()):
        one = place.pad(read)[sequence, : lengths[sequence]]
        alone = real[sequence : sequence + 1, : lengths[sequence]]
        memory = model.memories(one, packing(alone), alone, writes=5)
        x = model.embedding(written[row])
        expected = model(x, dense(1, 5), causal(), caches=memory)[-1]
        torch.testing.assert_close(last[row], expected, atol=1e-12, rtol=0)


@torch.no_grad()
def test_in_training_nothing_is_kept(model: Seq2Seq):
    real = torch.ones(2, 3, dtype=torch.bool)
    memories = model.memories(torch.randn(6, WIDTH).double(), packing(real), real, writes=4)
    x = torch.randn(8, WIDTH).double()
    first, second = (model(x, dense(2, 4), causal(), caches=memories) for _ in range(2))
    assert torch.equal(first, second)
    assert all(memory.length == 0 for memory in memories)
