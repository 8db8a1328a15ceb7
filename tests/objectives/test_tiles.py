"""Sums over a matrix that is never made: where nothing counts, where nothing is wanted, and at large values."""

from __future__ import annotations

import math

import pytest
import torch

from sensorium.objectives.tiles import log_sums, log_sums_both, softplus_sums

ONE = torch.ones((), dtype=torch.float64)


def _rows(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("tile", [1, 2, 7, 100])
def test_sums_are_those_of_the_matrix(tile):
    a, b = _rows(5, 0), _rows(7, 1)
    rows, columns = log_sums_both(a, b, 2 * ONE, tile=tile)
    torch.testing.assert_close(rows, (2 * a @ b.T).logsumexp(1))
    torch.testing.assert_close(columns, (2 * a @ b.T).logsumexp(0))
    torch.testing.assert_close(log_sums(a, b, 2 * ONE, tile=tile), rows)
    expected = (2 * a @ b.T - 1).exp().log1p().sum(1)
    torch.testing.assert_close(softplus_sums(a, b, 2 * ONE, -ONE, tile=tile), expected)


def test_the_softplus_stays_exact_where_it_is_nearly_straight():
    one = torch.ones(1, 1, dtype=torch.float64)
    found = softplus_sums(one, one, 21 * ONE, 0 * ONE)
    assert float(found - 21) == pytest.approx(math.log1p(math.exp(-21)), rel=1e-5)


def test_rows_and_matrices_of_which_nothing_counts():
    a, b = _rows(3, 0).requires_grad_(), _rows(4, 1).requires_grad_()

    def keep(r: slice, c: slice) -> torch.Tensor:
        wanted = torch.ones(3, 4, dtype=torch.bool)
        wanted[1] = False
        return wanted[r, c]

    found = log_sums(a, b, ONE, tile=2, keep=keep)
    assert found[1] == -torch.inf
    assert bool(found[[0, 2]].isfinite().all())
    torch.logaddexp(found, torch.zeros(3, dtype=torch.float64)).sum().backward()
    assert bool(a.grad.isfinite().all())
    assert not a.grad[1].any()
    assert log_sums(a, b[:0], ONE).tolist() == [-math.inf] * 3
    assert log_sums(a[:0], b, ONE).shape == (0,)


@pytest.mark.parametrize("wanted", [("a",), ("b",), ("scale",), ("bias",), ("a", "bias")])
def test_only_wanted_gradients_are_made(wanted):
    given = {"a": _rows(3, 0), "b": _rows(4, 1), "scale": 2 * ONE, "bias": -ONE}
    given = {name: value.clone().requires_grad_(name in wanted) for name, value in given.items()}
    a, b, scale, bias = given.values()
    softplus_sums(a, b, scale, bias, tile=2).square().sum().backward()
    found = {name: value.grad for name, value in given.items()}
    for value in given.values():
        value.grad = None
    (scale * a @ b.T + bias).exp().log1p().sum(1).square().sum().backward()
    for name, value in given.items():
        assert (found[name] is not None) == (name in wanted)
        if name in wanted:
            torch.testing.assert_close(found[name], value.grad)
