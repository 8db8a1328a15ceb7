"""Ranks against brute force, hand-computed ties, and chance."""

from __future__ import annotations

import math

import pytest
import torch

from sensorium.evaluation.metrics import chance_recall, nearest, ranks


def _unit(rows: int, seed: int, width: int = 8) -> torch.Tensor:
    return torch.nn.functional.normalize(
        torch.randn(rows, width, generator=torch.Generator().manual_seed(seed))
    )


@pytest.mark.parametrize("tile", [1, 7, 256])
def test_ranks_against_sorting(tile: int) -> None:
    queries, gallery = _unit(40, 0), _unit(55, 1)
    mine, theirs = torch.arange(40) % 11, torch.arange(55) % 11
    place = ranks(queries, gallery, query_concepts=mine, gallery_concepts=theirs, tile=tile)
    for q in range(40):
        order = (queries[q] @ gallery.T).argsort(descending=True).tolist()
        positives = [i for i in order if theirs[i] == mine[q]]
        expected = 1 + sum(theirs[i] != mine[q] for i in order[: order.index(positives[0])])
        assert place.position()[q] == expected
        assert place.recall(5)[q] == float(expected <= 5)
        assert place.reciprocal()[q].item() == pytest.approx(1 / expected)


def test_other_positives_do_not_count_against_a_query() -> None:
    query = torch.tensor([[1.0, 0.0]])
    gallery = torch.tensor([[0.9, 0.1], [1.0, 0.0], [0.0, 1.0]])
    same = torch.zeros(1, dtype=torch.long)
    place = ranks(query, gallery, query_concepts=same, gallery_concepts=torch.tensor([0, 1, 0]))
    assert place.ahead.tolist() == [1]
    place = ranks(query, gallery, query_concepts=same, gallery_concepts=torch.tensor([0, 0, 1]))
    assert place.ahead.tolist() == [0]


def test_ties_count_as_their_average() -> None:
    # one negative ahead, then the positive tied with two negatives: places 2, 3, 4 equally likely
    query = torch.tensor([[1.0, 0.0]])
    gallery = torch.tensor([[1.0, 0.0], [0.5, 0.1], [0.5, 0.2], [0.5, 0.3], [0.1, 0.0]])
    place = ranks(query, gallery, query_concepts=torch.tensor([2]), gallery_concepts=torch.arange(5))
    assert (place.ahead.item(), place.tied.item()) == (1, 2)
    assert place.position().item() == 3
    assert place.recall(1).item() == 0
    assert place.recall(2).item() == pytest.approx(1 / 3)
    assert place.recall(3).item() == pytest.approx(2 / 3)
    assert place.recall(4).item() == 1
    assert place.reciprocal().item() == pytest.approx((1 / 2 + 1 / 3 + 1 / 4) / 3)


def test_a_collapsed_model_scores_exactly_chance() -> None:
    same = torch.ones(20, 4) / 2
    ids = torch.arange(20)
    place = ranks(same, same, query_concepts=ids, gallery_concepts=ids)
    for k in (1, 5, 10):
        chance = chance_recall(k, query_concepts=ids, gallery_concepts=ids)
        assert place.recall(k).mean().item() == pytest.approx(chance) == k / 20


def test_values_that_are_not_numbers_count_against_the_model() -> None:
    vectors, ids = _unit(6, 0), torch.arange(6)
    vectors[2] = torch.nan
    place = ranks(vectors, vectors, query_concepts=ids, gallery_concepts=ids)
    assert place.ahead[2] == 5
    assert (place.ahead >= 1).all()


def test_a_query_without_a_positive_is_an_error() -> None:
    with pytest.raises(ValueError, match="no positive"):
        ranks(_unit(1, 0), _unit(2, 1), query_concepts=torch.tensor([5]), gallery_concepts=torch.arange(2))


def test_chance_with_several_positives() -> None:
    # two of five are right: at least one of two drawn is right with 1 - (3/5)(2/4)
    ids = torch.tensor([0, 0, 1, 2, 3])
    assert chance_recall(2, query_concepts=ids[:1], gallery_concepts=ids) == pytest.approx(0.7)
    expected = 1 - math.comb(3, 2) / math.comb(5, 2)
    assert chance_recall(2, query_concepts=ids[:1], gallery_concepts=ids) == pytest.approx(expected)
    assert chance_recall(50, query_concepts=ids, gallery_concepts=ids) == 1


@pytest.mark.parametrize("tile", [3, 256])
def test_nearest_against_sorting(tile: int) -> None:
    queries, gallery = _unit(10, 2), _unit(12, 3)
    scores, index = nearest(queries, gallery, k=4, tile=tile)
    full = queries @ gallery.T
    assert torch.equal(index, full.argsort(dim=1, descending=True)[:, :4])
    torch.testing.assert_close(scores, full.gather(1, index))
    assert nearest(queries, gallery[:2], k=4)[1].shape == (10, 2)
