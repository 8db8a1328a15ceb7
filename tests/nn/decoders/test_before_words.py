"""Media before words: who sees whom, and where words stand."""

from __future__ import annotations

import torch
from torch import Tensor

from sensorium.nn.decoders.before_words import MediaTogether, PlacedWords, WordPositions
from sensorium.nn.decoders.places import Sequences
from sensorium.nn.layers.norms import LayerNorm


def known(media: list[list[int]]) -> Sequences:
    """Sequences of which only the places of media matter."""
    held = torch.tensor(media)
    nothing = torch.zeros(len(held), dtype=torch.long)
    return Sequences(
        ids=held,
        real=torch.ones_like(held, dtype=torch.bool),
        lengths=nothing + held.shape[1],
        media=held,
        learnt=None,
        layouts={},
        owner=nothing,
    )


def seen(media: list[list[int]]) -> Tensor:
    return MediaTogether()(known(media)).rule.dense


def test_media_that_stand_together_see_each_other():
    found = seen([[1, 1, 0, 0], [0, 2, 1, 0]])
    expected = torch.ones(4, 4, dtype=torch.bool).tril().repeat(2, 1, 1)
    expected[0, 0, 1] = expected[1, 1, 2] = True
    assert torch.equal(found, expected)


def test_media_that_stand_apart_do_not():
    assert torch.equal(seen([[1, 0, 1]])[0], torch.ones(3, 3, dtype=torch.bool).tril())


def test_only_words_are_counted():
    found = WordPositions()(known([[1, 1, 0, 0], [0, 1, 0, 1]]))
    assert found.tolist() == [[-1, -1, 0, 1], [0, -1, 1, -1]]


def test_words_get_places_and_a_norm():
    torch.manual_seed(0)
    places = PlacedWords(length=4, width=6, norm=LayerNorm(width=6, eps=1e-3))
    x = torch.randn(3, 6)
    found = places(x, torch.tensor([-1, 0, 3]))
    assert torch.equal(found[0], x[0])
    torch.testing.assert_close(found[1:], places.norm(x[1:] + places.place.weight[[0, 3]]))
