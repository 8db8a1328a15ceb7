"""The unified model as a state of decoding: cached equals uncached, and a batch equals its samples one by one."""

from __future__ import annotations

import pytest
import torch
from nn.toys import VOCABULARY, batch, model, sample

from sensorium.core import Sample, Segment
from sensorium.generation.settings import Decoding
from sensorium.generation.write import write

BOS, EOS = 1, 2


def _contexts(count: int = 5) -> list[Sample]:
    parts = [("picture", "wave"), ("picture",), ("wave",)]
    made = []
    for index in range(count):
        question = sample(index, ("turn",)).segments[0]
        media = sample(index, parts[index % 3]).segments
        made.append(Sample(f"s{index}", (*media, question)))
    return made


@torch.no_grad()
def _written(net, contexts: list[Sample], how: Decoding) -> list[list[list[int]]]:
    ones = torch.ones(len(contexts), dtype=torch.long)
    segment = torch.tensor([len(context.segments) for context in contexts])
    state = net.begin(batch(contexts), segment, turn=ones, ordinal=ones, ids=BOS * ones)
    assert state.history == [[BOS]] * len(contexts)
    return [[one.ids for one in texts] for texts in write(state, how, stop_ids={EOS}, decode=str)]


class _Uncached:
    """The same model, which reads everything again for each token."""

    def __init__(self, net, context: Sample) -> None:
        self.net, self.contexts, self.history = net, [context], [[BOS]]
        self.extend(None)

    @torch.no_grad()
    def extend(self, ids: torch.Tensor | None) -> None:
        if ids is not None:
            self.history = [[*a, b] for a, b in zip(self.history, ids.tolist(), strict=True)]
        rows = []
        for context, ids in zip(self.contexts, self.history, strict=True):
            segment = Segment("words", torch.tensor([*ids, 0]), role="assistant", target=True, turn=1)
            read = self.net(batch([Sample("s", (*context.segments, segment))])).language
            rows.append(read.logits[len(ids) - 1])
        self.logits = torch.stack(rows)

    def select(self, rows: torch.Tensor) -> None:
        self.logits = self.logits[rows]
        self.contexts = [self.contexts[row] for row in rows.tolist()]
        self.history = [self.history[row] for row in rows.tolist()]


@pytest.fixture(scope="module")
def net():
    return model(seed=4)


HOWS = [
    Decoding(12),
    Decoding(8, beams=3, n=2, early_stopping="never"),
    Decoding(8, temperature=1.5, top_p=0.95, n=2, seed=3),
]


@pytest.mark.parametrize("how", HOWS)
def test_cached_equals_uncached(net, how):
    contexts = _contexts(4)
    expected = [
        [one.ids for one in write(_Uncached(net, context), how, stop_ids={EOS}, decode=str)[0]]
        for context in contexts
    ]
    assert _written(net, contexts, how) == expected
    assert len({tuple(ids) for texts in expected for ids in texts}) > 1


@pytest.mark.parametrize("how", HOWS)
def test_a_batch_equals_its_samples(net, how):
    contexts = _contexts()
    assert _written(net, contexts, how) == [_written(net, [one], how)[0] for one in contexts]


def test_only_tokens_of_the_vocabulary_are_drawn(net):
    found = _written(net, _contexts(3), Decoding(8, temperature=5.0))
    assert max(max(ids, default=0) for texts in found for ids in texts) < VOCABULARY
