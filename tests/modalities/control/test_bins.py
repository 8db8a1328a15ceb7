"""Numbers as tokens, by the formulas of the paper."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sensorium.core import ConfigError
from sensorium.modalities.control import Actions, Alphabet
from sensorium.modalities.control.bins import BINS, companded, expanded, from_bins, to_bins


@pytest.mark.parametrize("x", [-300.0, -256.0, -1.0, -0.003, 0.0, 0.5, 17.0, 256.0])
def test_the_mu_law(x: float):
    expected = math.copysign(math.log(abs(x) * 100 + 1) / math.log(256 * 100 + 1), x)
    assert float(companded(np.array(x))) == pytest.approx(max(-1.0, min(1.0, expected)))
    assert float(expanded(companded(np.array(x)))) == pytest.approx(max(-256.0, min(256.0, x)))


def test_bins_are_equal_parts():
    assert to_bins(np.array([-1.0, -1 + 2 / BINS, 0.0, 1 - 1e-9, 1.0])).tolist() == [0, 1, 512, 1023, 1023]
    places = np.arange(BINS)
    assert (to_bins(from_bins(places)) == places).all()
    values = np.random.default_rng(0).uniform(-1, 1, 1000)
    assert np.abs(from_bins(to_bins(values)) - values).max() <= 1 / BINS + 1e-6


def test_every_token_has_one_meaning_besides_whole_numbers_and_words():
    found = Alphabet(2000, ("a", "b"))
    assert found.seen(np.array([[0, 1023]])).tolist() == [[0, 1023]]
    assert found.seen(np.array([[-1e9, 1e9]], np.float32)).tolist() == [[2000, 3023]]
    assert found.seen(np.array([[1.0]], np.float32)) == 2000 + to_bins(companded(np.array(1.0)))
    assert found.done(np.array([[-1.0, 1.0]], np.float32)).tolist() == [[2000, 3023]]
    assert [found.separator, *found.places.values(), found.size] == [3024, 3025, 3026, 3027]
    with pytest.raises(ConfigError, match="at least 1,024 tokens of words, found 5"):
        Alphabet(5)


def test_actions():
    alphabet = Alphabet(2000)
    assert Actions(3).tokens(alphabet) == range(2000, 3024)
    assert Actions(choices=4).tokens(alphabet) == range(4)
    places = np.array([[0, 512]])
    np.testing.assert_array_equal(Actions(2).read(places), from_bins(places))
    assert Actions(choices=4).read(np.array([3])).tolist() == [3]
    for wrong in ({"width": 0}, {"choices": 0}, {"choices": 1025}):
        with pytest.raises(ConfigError, match="an action has one number or more"):
            Actions(**wrong)
