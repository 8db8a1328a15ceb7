"""Hard negatives: those most similar, or drawn by similarity, and never one that means the same."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sensorium.objectives.hard import draw_negatives, hardest

CONCEPT = torch.tensor([0, 1, 2, 0, 1, 3])


def _rows(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, 4, generator=generator), dim=-1)


@pytest.mark.parametrize("tile", [1, 4, 100])
@pytest.mark.parametrize("count", [1, 3])
def test_the_hardest_are_the_most_similar_of_another_concept_or_of_the_queue(tile, count):
    a, b, queue = _rows(6, 0), _rows(6, 1), _rows(5, 2)
    found = hardest(a, [b, queue], count, CONCEPT, CONCEPT, tile=tile)
    for i in range(6):
        similarity = (torch.cat([b, queue]) @ a[i]).tolist()
        allowed = [j for j in range(11) if j >= 6 or CONCEPT[j] != CONCEPT[i]]
        assert found[i].tolist() == sorted(allowed, key=lambda j: -similarity[j])[:count]


def test_where_there_are_fewer_negatives_than_asked_for_there_is_none():
    a, b = _rows(3, 0), _rows(3, 1)
    found = hardest(a, [b], 4, torch.tensor([0, 0, 1]), torch.tensor([0, 0, 1]), tile=2)
    assert [sorted(row) for row in found.tolist()] == [[-1, -1, -1, 2], [-1, -1, -1, 2], [-1, -1, 0, 1]]


@pytest.mark.parametrize("tile", [2, 100])
def test_negatives_are_drawn_as_often_as_they_are_similar(tile):
    a, b, scale = _rows(6, 0), _rows(6, 1), 3.0
    generator = torch.Generator().manual_seed(0)
    many = 4_000
    rows = torch.arange(6).repeat(many)
    drawn = draw_negatives(a[rows], b, scale, CONCEPT[rows], CONCEPT, generator, tile=tile)
    counts = torch.zeros(6, 6).index_put_((rows, drawn), torch.ones(len(rows)), accumulate=True) / many
    logits = (scale * a @ b.T).masked_fill(CONCEPT[:, None] == CONCEPT, -torch.inf)
    torch.testing.assert_close(counts, logits.softmax(1), atol=0.04, rtol=0)
    assert not counts[CONCEPT[:, None] == CONCEPT].any()


def test_a_draw_follows_from_the_generator_and_may_find_nothing():
    a, b = _rows(6, 0), _rows(6, 1)
    first, second = (
        draw_negatives(a, b, 2.0, CONCEPT, CONCEPT, torch.Generator().manual_seed(1)) for _ in range(2)
    )
    assert torch.equal(first, second)
    same = torch.zeros(6, dtype=torch.long)
    assert draw_negatives(a, b, 2.0, same, same).tolist() == [-1] * 6
