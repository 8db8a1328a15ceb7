"""The contrastive loss against loops over every pair of rows."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from objectives import naive
from training.kit import exact

from sensorium.core.outputs import Embedding
from sensorium.objectives import Contrastive

CLOSE = {"atol": 1e-12, "rtol": 1e-12}
SCALE = torch.tensor(7.0, dtype=torch.float64)


@pytest.fixture(autouse=True)
def _no_rounding():
    with exact():
        yield


def _embedding(owner: list[int], seed: int = 0) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    vectors = torch.randn(len(owner), 5, generator=generator, dtype=torch.float64)
    return Embedding(F.normalize(vectors, dim=-1), torch.tensor(owner, dtype=torch.long))


def _three() -> dict[str, Embedding]:
    """Modalities that are missing here and there, out of order, with several segments of one sample."""
    return {
        "words": _embedding([0, 1, 1, 2, 4, 5], 1),
        "picture": _embedding([5, 0, 2, 1], 2),
        "wave": _embedding([3, 4, 4, 0], 3),
    }


CONCEPT = torch.tensor([7, 8, 7, 9, 8, 3])


def test_the_loss_is_that_of_loops_with_several_positives_and_missing_modalities():
    expected = naive.contrastive(_three(), SCALE, CONCEPT)
    found = Contrastive()(_three(), SCALE, CONCEPT)
    assert found.losses.keys() == expected.keys() == {"contrastive/picture-words", "contrastive/wave-words"}
    for name, (loss, _) in expected.items():
        torch.testing.assert_close(found.losses[name], loss, **CLOSE)


def test_the_mean_counts_each_pair_by_its_samples():
    expected = naive.contrastive(_three(), SCALE, CONCEPT)
    assert sorted(size for _, size in expected.values()) == [2, 4]
    torch.testing.assert_close(
        Contrastive()(_three(), SCALE, CONCEPT).mean, naive.weighted_mean(expected), **CLOSE
    )


def test_with_distinct_concepts_it_is_clip():
    a, b = _embedding([0, 1, 2, 3], 1), _embedding([0, 1, 2, 3], 2)
    logits = SCALE * a.vectors @ b.vectors.T
    clip = (F.cross_entropy(logits, torch.arange(4)) + F.cross_entropy(logits.T, torch.arange(4))) / 2
    found = Contrastive()({"a": a, "b": b}, SCALE, torch.arange(4))
    torch.testing.assert_close(found.mean, clip, **CLOSE)


def test_a_batch_of_one_concept_teaches_nothing_when_all_is_equal():
    vectors = F.normalize(torch.ones(4, 5, dtype=torch.float64), dim=-1)
    same = Embedding(vectors, torch.arange(4))
    found = Contrastive()({"a": same, "b": same}, SCALE, torch.zeros(4, dtype=torch.long))
    assert float(found.mean) == pytest.approx(math.log(4))


def test_gradients_of_vectors_and_scale_are_those_of_loops():
    def gradients(loss_of):
        leaves = {name: found.vectors.clone().requires_grad_() for name, found in _three().items()}
        scale = SCALE.clone().requires_grad_()
        made = {name: Embedding(leaf, _three()[name].owner) for name, leaf in leaves.items()}
        return torch.autograd.grad(loss_of(made, scale), [scale, *leaves.values()])

    found = gradients(lambda made, scale: Contrastive()(made, scale, CONCEPT).mean)
    expected = gradients(lambda made, scale: naive.weighted_mean(naive.contrastive(made, scale, CONCEPT)))
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    assert found[0].abs() > 1e-3, "the temperature is learnt"


def test_the_order_of_samples_changes_nothing():
    order = [3, 0, 5, 1, 4, 2]
    moved = {}
    for name, found in _three().items():
        moved[name] = Embedding(found.vectors, torch.tensor([order.index(o) for o in found.owner.tolist()]))
    expected = Contrastive()(_three(), SCALE, CONCEPT).mean
    torch.testing.assert_close(Contrastive()(moved, SCALE, CONCEPT[order]).mean, expected, **CLOSE)


@pytest.mark.parametrize("owners", [([], []), ([0], [0]), ([0, 1], [2, 3]), ([0, 1], [1, 2])])
def test_pairs_with_fewer_than_two_samples_are_left_out(owners):
    made = {name: _embedding(owner) for name, owner in zip("ab", owners, strict=True)}
    found = Contrastive()(made, SCALE, torch.arange(4))
    assert found.losses == {}
    assert float(found.mean) == 0.0
