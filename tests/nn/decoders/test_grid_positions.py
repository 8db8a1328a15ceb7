"""Places in time, rows and columns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sensorium.core import ConfigError
from sensorium.nn.decoders.grid_positions import GridPositions
from sensorium.nn.decoders.places import Sequences


def sequences(media: list[list[int]], owner: list[int] | None = None, **layouts: Tensor | None) -> Sequences:
    """Rows of kinds; -1 is padding."""
    kinds = torch.tensor(media)
    real = kinds >= 0
    return Sequences(
        ids=torch.zeros_like(kinds),
        real=real,
        lengths=real.sum(1),
        media=kinds.clamp(min=0),
        learnt=None,
        layouts=layouts,
        owner=torch.tensor(owner if owner is not None else list(range(len(media)))),
    )


def test_words_are_counted():
    found = GridPositions()(sequences([[0, 0, 0], [0, 0, -1]], picture=None))
    assert found[0].tolist() == [[0] * 3, [1] * 3, [2] * 3]
    assert found[1, :2].tolist() == [[0] * 3, [1] * 3]


def test_a_picture_among_words():
    """Two rows of three tokens; words go on behind the longer of both."""
    known = sequences([[0, 1, 1, 1, 1, 1, 1, 0, 0]], picture=torch.tensor([[1, 4, 6]]))
    places = [[0] * 3, [1, 1, 1], [1, 1, 2], [1, 1, 3], [1, 2, 1], [1, 2, 2], [1, 2, 3], [4] * 3, [5] * 3]
    assert GridPositions()(known)[0].tolist() == places
    assert GridPositions(rate=2)(known)[0].tolist() == places


def test_segments_may_follow_one_another():
    """Each begins behind the one before, also in the next sequence and of another kind."""
    first = torch.tensor([[1, 2, 2], [1, 2, 4], [1, 2, 4]])
    known = sequences([[1, 1, 1, 0], [2, 1, 1, 0]], a=first, b=torch.tensor([[1, 2, 2]]))
    found = GridPositions()(known)
    assert found[0].tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 2], [3] * 3]
    assert found[1].tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 2], [3] * 3]


@pytest.mark.parametrize(
    ("rate", "step", "times"),
    [
        (None, 5_000_000_000, [0, 1, 2, 3]),  # steps are counted
        (2, 1_500_000_000, [0, 3, 6, 9]),
        (2, 400_000_000, [0, 0, 1, 2]),
        (1, 333_333_334, [0, 0, 0, 1]),
    ],
)
def test_time(rate: int | None, step: int, times: list[int]):
    known = sequences([[1, 1, 1, 1, 0]], clip=torch.tensor([[4, 2, 2, step]]))
    found = GridPositions(rate=rate)(known)[0]
    assert found[:4, 0].tolist() == times
    assert found[:4, 1:].tolist() == [[0, 0]] * 4
    assert found[4].tolist() == [1] * 3


def test_a_step_is_a_second_where_none_is_given():
    known = sequences([[1, 1]], clip=torch.tensor([[2, 2, 2]]))
    assert GridPositions(rate=3)(known)[0, :, 0].tolist() == [0, 3]


def test_several_sequences_of_one_sample():
    """Both have its pictures."""
    layout = torch.tensor([[1, 2, 4], [1, 4, 2], [1, 2, 2]])
    known = sequences([[1, 1, 0, 1, 1], [1, 1, 0, 1, 1], [1, 0, 0, 0, 0]], owner=[4, 4, 7], picture=layout)
    found = GridPositions()(known)
    assert found[0].tolist() == [[0, 0, 0], [0, 0, 1], [2] * 3, [3, 3, 3], [3, 4, 3]]
    assert found[1].tolist() == found[0].tolist()
    assert found[2].tolist() == [[0] * 3, [1] * 3, [2] * 3, [3] * 3, [4] * 3]


@pytest.mark.parametrize(
    ("layout", "match"),
    [
        (None, "picture needs a layout"),
        (torch.tensor([[4, 4]]), "picture needs a layout"),
        (torch.tensor([[1, 4, 6]]), "the tokens of picture are not those of the layouts"),
        (torch.tensor([[1, 2, 2]]), "the tokens of picture are not those of the layouts"),
    ],
)
def test_layouts_that_do_not_fit(layout: Tensor | None, match: str):
    with pytest.raises(ConfigError, match=match):
        GridPositions()(sequences([[0, 1, 1, 1]], picture=layout))


def test_numbers_that_cannot_be():
    with pytest.raises(ConfigError, match="found 0 and None"):
        GridPositions(merge=0)
