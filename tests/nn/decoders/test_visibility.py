"""Who sees whom in language models that look ahead, pair by pair."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sensorium.nn.decoders.places import Sequences
from sensorium.nn.decoders.visibility import FromOne, MediaBlocks, Prefix
from sensorium.nn.layers.masks import Mask

T = 8
LENGTHS = torch.tensor([8, 6])
MEDIA = torch.tensor([[0, 1, 1, 1, 0, 1, 1, 2], [1, 1, 0, 0, 2, 2, 0, 0]])
LEARNT = torch.tensor([[0, 0, 0, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0]]).bool()
RUNS = [[0, 1, 1, 1, 0, 2, 2, 3], [1, 1, 0, 0, 2, 2, 0, 0]]


def known(learnt: torch.Tensor | None = LEARNT) -> Sequences:
    return Sequences(
        ids=torch.zeros(2, T, dtype=torch.long),
        real=torch.arange(T) < LENGTHS[:, None],
        lengths=LENGTHS,
        media=MEDIA,
        learnt=learnt,
        layouts={},
        owner=torch.arange(2),
    )


def pairs(mask: Mask) -> list[list[list[bool]]]:
    found = mask.joined(T, T, torch.device("cpu"))
    assert found is not None
    return found.dense.tolist()


def asked(may: Callable[[int, int, int], bool]) -> list[list[list[bool]]]:
    return [[[may(b, q, k) for k in range(T)] for q in range(T)] for b in range(2)]


@pytest.mark.parametrize(("learnt", "given"), [(LEARNT, [5, 6]), (None, [8, 6])])
@pytest.mark.parametrize("near", [None, 2])
def test_what_is_given_is_seen_whole(learnt: torch.Tensor | None, given: list[int], near: int | None):
    """However near a layer looks; what follows is read from left to right, even where it is not learnt."""
    found = pairs(Prefix()(known(learnt)).within(near))
    back = T if near is None else near
    assert found == asked(lambda b, q, k: 0 <= q - k < back or max(q, k) < given[b])


@pytest.mark.parametrize("near", [None, 2])
def test_rows_of_a_medium_see_each_other(near: int | None):
    """Ahead to its end, and back as far as the layer looks."""
    found = pairs(MediaBlocks()(known()).within(near))
    back = T if near is None else near
    assert found == asked(lambda b, q, k: 0 <= q - k < back or (k > q and RUNS[b][q] == RUNS[b][k] > 0))


def test_places_from_one():
    assert FromOne()(known()).tolist() == [list(range(1, T + 1))] * 2
