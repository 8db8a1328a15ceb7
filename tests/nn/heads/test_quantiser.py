"""Choosing entries of code books."""

from __future__ import annotations

import pytest
import torch

from sensorium.core import ConfigError
from sensorium.nn.heads.quantiser import GumbelQuantiser


def quantiser(**changes: float) -> GumbelQuantiser:
    torch.manual_seed(0)
    return GumbelQuantiser(width=6, books=3, entries=5, code_width=12, **changes).double()


def test_the_likeliest_in_use():
    ours = quantiser().eval()
    x = torch.randn(7, 6).double()
    found = ours(x)
    logits = ours.choose(x).unflatten(1, (3, 5))
    for row in range(7):
        chosen = [int(logits[row, book].argmax()) for book in range(3)]
        assert found.chosen[row].tolist() == chosen
        expected = torch.cat([ours.codes[book, entry] for book, entry in enumerate(chosen)])
        assert torch.equal(found.vectors[row], expected)
    assert torch.equal(found.shares.sum(-1), torch.ones(7, 3).double())
    assert ours(x[:0]).vectors.shape == (0, 12)


def test_drawn_by_probability_in_training():
    ours = quantiser().train()
    x = torch.randn(1, 6).double()
    found = ours(x.expand(20000, -1))
    expected = ours.choose(x).unflatten(1, (3, 5)).softmax(-1)[0]
    torch.testing.assert_close(found.shares[0], expected)
    often = torch.nn.functional.one_hot(found.chosen, 5).double().mean(0)
    assert (often - expected).abs().max() < 0.02
    codes = torch.cat([ours.codes[book, entry] for book, entry in enumerate(found.chosen[0])])
    assert torch.equal(found.vectors[0], codes), "the choice is hard, exactly"


def test_gradients_are_those_of_the_soft_choice():
    """At a high temperature all entries count alike, at a low one none but the chosen."""
    sizes = []
    for temperature in (0.01, 1.0, 100.0):
        ours = quantiser(temperature=temperature).train()
        ours(
            torch.randn(200, 6, generator=torch.Generator().manual_seed(1)).double()
        ).vectors.sum().backward()
        sizes.append(float(ours.choose.weight.grad.norm()))
        assert ours.codes.grad.any()
    assert sizes[1] > 10 * sizes[2] > 0


def test_uneven_books():
    with pytest.raises(ConfigError, match="width 10 cannot be split over 3 books"):
        GumbelQuantiser(width=6, books=3, entries=5, code_width=10)
