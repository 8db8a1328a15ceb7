"""The order of samples: a function of the seed and the step alone."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensorium.core import ConfigError
from sensorium.data.order import Order, Place


def _epochs(order: Order, count: int) -> list[list[Place]]:
    """The samples of the first epochs, whatever the batches."""
    steps = -(-count * order.per_epoch // order.batch)
    places = [place for step in range(steps) for place in order.samples(step)]
    return [places[e * order.per_epoch : (e + 1) * order.per_epoch] for e in range(count)]


@pytest.mark.parametrize(("size", "batch"), [(7, 3), (8, 4), (5, 1), (1, 1), (13, 13)])
def test_every_sample_comes_once_per_epoch(size, batch):
    for epoch, places in enumerate(_epochs(Order([size], [1.0], batch=batch, seed=0), 4)):
        assert sorted(places) == [Place(0, row, epoch) for row in range(size)]


def test_weight_one_half_alternates_halves_and_weight_two_gives_each_twice():
    first, second, third, fourth = _epochs(Order([10, 3], [0.5, 2.0], batch=4, seed=1), 4)
    for epoch, places in enumerate((first, second, third, fourth)):
        twice = Counter(place.row for place in places if place.source == 1)
        assert twice == {0: 2, 1: 2, 2: 2}
        visits = {place.visit for place in places if place.source == 1}
        assert visits == {2 * epoch, 2 * epoch + 1}, "each time is another visit, which draws anew"
    halves = [
        {place.row for place in places if place.source == 0} for places in (first, second, third, fourth)
    ]
    assert [len(half) for half in halves] == [5] * 4
    assert halves[0] | halves[1] == halves[2] | halves[3] == set(range(10))


def test_a_tiny_weight_still_gives_one_sample_and_weight_zero_none():
    places = [
        place
        for places in _epochs(Order([10, 5, 5], [0.01, 0.0, 1.0], batch=2, seed=0), 10)
        for place in places
    ]
    assert {place.row for place in places if place.source == 0} == set(range(10))
    assert not [place for place in places if place.source == 1]


def test_epochs_differ_and_so_do_seeds():
    first, second = _epochs(Order([50], [1.0], batch=10, seed=0), 2)
    rows = [place.row for place in first]
    assert rows != [place.row for place in second]
    assert rows != [place.row for place in _epochs(Order([50], [1.0], batch=10, seed=1), 1)[0]]
    assert rows != sorted(rows)


def test_any_step_can_be_asked_for_alone_and_in_another_process():
    order = Order([11, 4], [1.0, 0.5], batch=4, seed=3)
    expected = [order.samples(step) for step in range(30)]
    copied = pickle.loads(pickle.dumps(order))
    for step in reversed(range(30)):
        assert Order([11, 4], [1.0, 0.5], batch=4, seed=3).samples(step) == expected[step]
        assert copied.samples(step) == expected[step]


def test_a_batch_larger_than_the_data_is_the_whole_data():
    order = Order([5], [1.0], batch=64, seed=0)
    assert order.batch == 5
    assert order.batches == 1
    assert sorted(place.row for place in order.samples(3)) == list(range(5))


def test_every_batch_is_full_also_where_an_epoch_ends():
    order = Order([7], [1.0], batch=5, seed=0)
    assert [len(order.samples(step)) for step in range(9)] == [5] * 9
    assert {place.visit for place in order.samples(1)} == {0, 1}


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 9), min_size=1, max_size=3),
    weights=st.lists(st.sampled_from([0.0, 0.3, 0.5, 1.0, 1.7, 2.0]), min_size=3, max_size=3),
    batch=st.integers(1, 12),
)
def test_no_source_is_ahead_of_its_weight(sizes, weights, batch):
    """Over any number of epochs, the samples of one source differ by at most one in how often they came."""
    weights = weights[: len(sizes)]
    if not any(size and weight for size, weight in zip(sizes, weights, strict=True)):
        with pytest.raises(ConfigError, match="nothing to train on"):
            Order(sizes, weights, batch=batch, seed=0)
        return
    order = Order(sizes, weights, batch=batch, seed=0)
    places = [place for places in _epochs(order, 3) for place in places]
    assert len(places) == 3 * order.per_epoch
    for source, size in enumerate(sizes):
        counts = Counter(place.row for place in places if place.source == source)
        if counts:
            times = [counts[row] for row in range(size)]
            assert max(times) - min(times) <= 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"batch": 0}, "batch must be at least 1, found 0"), ({"weights": [-1.0]}, "at least 0, found -1.0")],
)
def test_impossible_orders_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        Order([4], **({"weights": [1.0], "batch": 1, "seed": 0} | changes))
