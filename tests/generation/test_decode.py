"""Decoding: cached equals uncached, a batch equals its samples one by one, and options are checked."""

from __future__ import annotations

import pytest
import torch
from nn.toys import VOCABULARY, batch, model, sample

from sensorium.core import ConfigError, Sample, Segment
from sensorium.generation.decode import Decoding, Places, write

BOS, EOS = 1, 2


def _contexts(count: int = 5) -> list[Sample]:
    parts = [("picture", "wave"), ("picture",), ("wave",)]
    made = []
    for index in range(count):
        question = sample(index, ("turn",)).segments[0]
        media = sample(index, parts[index % 3]).segments
        made.append(Sample(f"s{index}", (*media, question)))
    return made


def _places(contexts: list[Sample]) -> Places:
    return Places([len(c.segments) for c in contexts], [1] * len(contexts), [1] * len(contexts))


def _uncached(net, context: Sample, steps: int) -> list[int]:
    """Greedy decoding that reads everything again for each token."""
    ids = [BOS]
    for _ in range(steps):
        written = Segment("words", torch.tensor([*ids, 0]), role="assistant", target=True, turn=1)
        logits = net(batch([Sample("s", (*context.segments, written))])).language.logits
        ids.append(int(logits[len(ids) - 1].argmax()))
        if ids[-1] == EOS:
            break
    return [i for i in ids[1:] if i != EOS]


@pytest.fixture(scope="module")
def net():
    return model(seed=4)


def test_cached_equals_uncached(net):
    contexts = _contexts()
    found = write(net, batch(contexts), _places(contexts), Decoding(12), bos=BOS, eos=EOS)
    assert found == [_uncached(net, context, 12) for context in contexts]
    assert len({tuple(ids) for ids in found}) > 1


def test_a_batch_equals_its_samples(net):
    contexts = _contexts()
    together = write(net, batch(contexts), _places(contexts), Decoding(12), bos=BOS, eos=EOS)
    alone = [write(net, batch([c]), _places([c]), Decoding(12), bos=BOS, eos=EOS)[0] for c in contexts]
    assert together == alone


def test_sampling_is_seeded_and_top_1_is_greedy(net):
    contexts = _contexts(3)

    def draw(**options) -> list[list[int]]:
        return write(net, batch(contexts), _places(contexts), Decoding(8, **options), bos=BOS, eos=EOS)

    assert draw(temperature=2.0, seed=1) == draw(temperature=2.0, seed=1)
    assert draw(temperature=2.0, seed=1) != draw(temperature=2.0, seed=2)
    assert draw(temperature=2.0, top_k=1) == draw()
    assert max(max(ids, default=0) for ids in draw(temperature=5.0)) < VOCABULARY


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be from 1"),
        ({"max_new_tokens": 10**12}, "max_new_tokens must be from 1"),
        ({"temperature": float("nan")}, "temperature must be a number"),
        ({"temperature": -1.0}, "temperature must be a number"),
        ({"top_k": -1}, "top_k must be at least 0"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(options, message):
    with pytest.raises(ConfigError, match=message):
        Decoding(**options)
