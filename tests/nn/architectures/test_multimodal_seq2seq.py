"""The encoder-decoder among media: branches, rivals, and batches without answers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from recipes.language import sequences

from sensorium.core import ConfigError
from sensorium.core.batch import Batch
from sensorium.nn.architectures.multimodal_seq2seq import MultimodalSeq2Seq
from sensorium.recipes.t5 import t5


@pytest.fixture
def network() -> MultimodalSeq2Seq:
    torch.manual_seed(0)
    return t5("tiny").model.build().double().eval()


def batch(ids: list[list[int]], learnt: list[list[int]], branch: list[int] | None = None) -> Batch:
    """Sequences of one length, of which the tokens at the places ``learnt`` are learnt."""
    found = sequences(torch.tensor(ids), [len(ids[0])] * len(ids))
    flags = torch.zeros(len(ids), len(ids[0]), dtype=torch.bool)
    for row, places in zip(flags, learnt, strict=True):
        row[places] = True
    numbers = None if branch is None else torch.tensor([branch])
    words = replace(found.streams["text"], learnt=flags, branch=numbers)
    return replace(found, streams={"text": words})


@torch.no_grad()
def test_branches_are_read_and_learnt_each_by_itself(network: MultimodalSeq2Seq):
    whole = batch([[3, 4, 5, 6, 7, 8, 9, 10]], [[3, 4, 6, 7]], [0, 0, 1, 1, 1, 2, 2, 2])
    apart = batch([[3, 4, 5, 6, 7], [3, 4, 8, 9, 10]], [[3, 4], [3, 4]])
    found, expected = network(whole).language, network(apart).language
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-12, rtol=0)
    assert found.target.tolist() == [6, 7, 9, 10]
    assert found.owner.tolist() == [0, 0, 0, 0]


def test_words_must_say_what_is_learnt(network: MultimodalSeq2Seq):
    given = batch([[3, 4]], [[1]])
    words = replace(given.streams["text"], learnt=None)
    with pytest.raises(ConfigError, match="text needs a Composer"):
        network(replace(given, streams={"text": words}))


def test_without_answers_every_parameter_takes_part(network: MultimodalSeq2Seq):
    """A process whose part of a batch has none must not leave the others waiting."""
    network(batch([[3, 4, 5]], [[]])).language.rows.sum().backward()
    assert all(
        parameter.grad is not None for name, parameter in network.named_parameters() if "head" not in name
    )
