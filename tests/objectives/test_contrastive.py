"""The contrastive losses against loops over every pair of rows, whatever the tile."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from objectives import naive
from objectives.naive import Asked
from torch.utils._python_dispatch import TorchDispatchMode
from training.kit import exact

from sensorium.core import ConfigError
from sensorium.core.outputs import Embedding, Outputs
from sensorium.objectives import Affinity, Blend, Contrastive, InfoNCE, Sigmoid

CLOSE = {"atol": 1e-12, "rtol": 1e-11}
SCALE = torch.tensor(7.0, dtype=torch.float64)
CONCEPT = torch.tensor([7, 8, 7, 9, 8, 3])


@pytest.fixture(autouse=True)
def _no_rounding():
    with exact():
        yield


def _rows(count: int, seed: int, width: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(count, width, generator=generator, dtype=torch.float64), dim=-1)


def _embedding(owner: list[int], seed: int = 0, width: int = 5) -> Embedding:
    return Embedding(_rows(len(owner), seed, width), torch.tensor(owner, dtype=torch.long))


def _three(**more) -> Outputs:
    """Modalities that are missing here and there, out of order, with several segments of one sample."""
    embeddings = {
        "words": _embedding([0, 1, 1, 2, 4, 5], 1),
        "picture": _embedding([5, 0, 2, 1], 2),
        "wave": _embedding([3, 4, 4, 0], 3),
    }
    return Outputs(**{"embeddings": embeddings, "scale": SCALE} | more)


def _all(count: int = 9, **more) -> Outputs:
    """Three modalities that every sample has, with everything that a loss may ask for."""
    taught = {name: _embedding(list(range(count)), 9 + i, width=4) for i, name in enumerate("abc")}
    return Outputs(
        embeddings={name: _embedding(list(range(count)), 1 + i) for i, name in enumerate("abc")},
        scale=SCALE,
        bias=torch.tensor(-3.0),
        teacher=Outputs(embeddings=taught, scale=torch.tensor(5.0)),
        **more,
    )


QUEUE = {"a": _rows(4, 20), "b": _rows(7, 21)}
REPEATED = torch.tensor([0, 1, 2, 0, 3, 1, 0, 4, 5])

#: What is asked for, and the same of ours.
CASES = {
    "both": (Asked(), InfoNCE()),
    "first": (Asked(directions="first"), InfoNCE(directions="first")),
    "second": (Asked(directions="second"), InfoNCE(directions="second")),
    "smooth": (Asked(smoothing=0.1), InfoNCE(smoothing=0.1)),
    "smooth second": (Asked(smoothing=0.1, directions="second"), InfoNCE(smoothing=0.1, directions="second")),
    "hard": (Asked(hardest=2), InfoNCE(hardest=2)),
    "hard first": (Asked(hardest=3, directions="first"), InfoNCE(hardest=3, directions="first")),
    "harder than there are": (Asked(hardest=100), InfoNCE(hardest=100)),
    "sigmoid": (Asked(kind="sigmoid"), Sigmoid()),
    "hard sigmoid": (Asked(kind="sigmoid", hardest=2), Sigmoid(hardest=2)),
    "affinity": (Asked(kind="affinity"), Affinity()),
}


def _gradients(outputs: Outputs, loss_of) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """The loss, and its gradient at every embedding, scale and bias."""
    leaves = {name: found.vectors.clone().requires_grad_() for name, found in outputs.embeddings.items()}
    scale = outputs.scale.clone().requires_grad_()
    bias = (outputs.bias if outputs.bias is not None else torch.zeros(())).clone().requires_grad_()
    made = {name: Embedding(leaf, outputs.embeddings[name].owner) for name, leaf in leaves.items()}
    loss = loss_of(replace(outputs, embeddings=made, scale=scale, bias=bias))
    found = torch.autograd.grad(
        loss, [scale, bias, *leaves.values()], allow_unused=True, materialize_grads=True
    )
    return loss.detach(), list(found)


def _assert_equal(outputs: Outputs, concept: torch.Tensor, asked: Asked, ours: Contrastive) -> None:
    loss, gradients = _gradients(outputs, lambda made: ours(made, concept).mean)
    expected, wanted = _gradients(outputs, lambda made: naive.mean(made, concept, asked))
    torch.testing.assert_close(loss, expected, **CLOSE)
    for found, gradient in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, gradient, **CLOSE)
    assert gradients[0].abs() > 1e-3, "the temperature is learnt"


@pytest.mark.parametrize("tile", [1, 4, 9, 64])
@pytest.mark.parametrize("case", CASES)
def test_every_loss_and_gradient_is_that_of_loops_whatever_the_tile(case, tile):
    asked, ours = CASES[case]
    _assert_equal(_all(), torch.arange(9), asked, Contrastive(pairwise=ours, tile=tile))
    _assert_equal(_all(), REPEATED, asked, Contrastive(pairwise=ours, tile=tile))


@pytest.mark.parametrize("case", ["both", "sigmoid"])
def test_large_similarities_are_as_exact(case):
    asked, ours = CASES[case]
    given = replace(_all(), scale=torch.tensor(60.0), bias=torch.tensor(2.0))
    _assert_equal(given, REPEATED, asked, Contrastive(pairwise=ours, tile=4))


@pytest.mark.parametrize("tile", [3, 64])
@pytest.mark.parametrize("case", [case for case in CASES if case != "affinity"])
def test_rows_of_a_queue_are_negatives_of_every_row(case, tile):
    asked, ours = CASES[case]
    _assert_equal(_all(queue=QUEUE), REPEATED, asked, Contrastive(pairwise=ours, tile=tile))


@pytest.mark.parametrize("case", ["both", "smooth", "hard", "sigmoid"])
def test_missing_modalities_and_repeated_segments(case):
    asked, ours = CASES[case]
    _assert_equal(_three(), CONCEPT, asked, Contrastive(pairwise=ours, tile=2))
    expected = naive.contrastive(_three(bias=torch.zeros(())), CONCEPT, asked)
    found = Contrastive(pairwise=ours)(_three(), CONCEPT)
    assert found.losses.keys() == expected.keys() == {"contrastive/picture-words", "contrastive/wave-words"}
    assert sorted(size for _, size in expected.values()) == [2, 4]
    for name, (loss, _) in expected.items():
        torch.testing.assert_close(found.losses[name], loss, **CLOSE)


def test_with_an_anchor_only_its_pairs_are_contrasted():
    asked = Asked(anchor="b")
    ours = Contrastive(anchor="b", tile=4)
    assert ours(_all(), REPEATED).losses.keys() == {"contrastive/a-b", "contrastive/b-c"}
    _assert_equal(_all(), REPEATED, asked, ours)
    with pytest.raises(ConfigError, match=r"contrastive.anchor is 'd'.*one of: a, b, c"):
        Contrastive(anchor="d")(_all(), REPEATED)


def test_a_blend_is_a_weighted_sum():
    parts = [InfoNCE(), Affinity()]
    found = Contrastive(pairwise=Blend(parts=parts, weights=[1.0, 0.5]))(_all(), REPEATED).mean
    one, other = (Contrastive(pairwise=part)(_all(), REPEATED).mean for part in parts)
    torch.testing.assert_close(found, one + 0.5 * other, **CLOSE)


def test_affinity_is_nothing_where_student_and_teacher_agree_whatever_the_width():
    outputs = _all()
    turned = {  # the same similarities in a wider space
        name: Embedding(F.pad(found.vectors, (3, 2)), found.owner)
        for name, found in outputs.embeddings.items()
    }
    same = replace(outputs, teacher=Outputs(embeddings=turned, scale=SCALE))
    loss, gradients = _gradients(
        same, lambda made: Contrastive(pairwise=Affinity(), tile=4)(made, REPEATED).mean
    )
    assert float(loss) == pytest.approx(0, abs=1e-12)
    assert all(float(gradient.abs().max()) < 1e-12 for gradient in gradients)


def test_with_distinct_concepts_it_is_clip():
    a, b = _embedding([0, 1, 2, 3], 1), _embedding([0, 1, 2, 3], 2)
    logits = SCALE * a.vectors @ b.vectors.T
    clip = (F.cross_entropy(logits, torch.arange(4)) + F.cross_entropy(logits.T, torch.arange(4))) / 2
    found = Contrastive()(Outputs(embeddings={"a": a, "b": b}, scale=SCALE), torch.arange(4))
    torch.testing.assert_close(found.mean, clip, **CLOSE)


def test_a_batch_of_one_concept_teaches_nothing_when_all_is_equal():
    vectors = F.normalize(torch.ones(4, 5, dtype=torch.float64), dim=-1)
    same = Embedding(vectors, torch.arange(4))
    outputs = Outputs(embeddings={"a": same, "b": same}, scale=SCALE)
    assert float(Contrastive()(outputs, torch.zeros(4, dtype=torch.long)).mean) == pytest.approx(math.log(4))


def test_the_order_of_samples_changes_nothing():
    order = [3, 0, 5, 1, 4, 2]
    moved = {}
    for name, found in _three().embeddings.items():
        moved[name] = Embedding(found.vectors, torch.tensor([order.index(o) for o in found.owner.tolist()]))
    expected = Contrastive()(_three(), CONCEPT).mean
    torch.testing.assert_close(
        Contrastive()(_three(embeddings=moved), CONCEPT[order]).mean, expected, **CLOSE
    )


@pytest.mark.parametrize("owners", [([], []), ([0], [0]), ([0, 1], [2, 3]), ([0, 1], [1, 2])])
def test_pairs_with_fewer_than_two_samples_are_left_out(owners):
    made = {name: _embedding(owner) for name, owner in zip("ab", owners, strict=True)}
    found = Contrastive()(Outputs(embeddings=made, scale=SCALE), torch.arange(4))
    assert found.losses == {}
    assert float(found.mean) == 0.0


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
@pytest.mark.parametrize("case", ["both", "hard", "sigmoid", "hard sigmoid"])
def test_single_precision_neither_overflows_nor_vanishes(case, scale):
    asked, ours = CASES[case]
    given = replace(_all(queue=QUEUE), scale=torch.tensor(scale), bias=torch.zeros(()))
    single = {
        name: Embedding(found.vectors.to(torch.float32), found.owner)
        for name, found in given.embeddings.items()
    }
    loss, gradients = _gradients(
        replace(given, embeddings=single),
        lambda made: Contrastive(pairwise=ours, tile=4)(made, REPEATED).mean,
    )
    assert loss.dtype == torch.float32
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    if scale <= 100:
        expected, wanted = _gradients(given, lambda made: naive.mean(made, REPEATED, asked))
        assert float(loss) == pytest.approx(float(expected), rel=1e-5)
        for found, gradient in zip(gradients, wanted, strict=True):
            torch.testing.assert_close(found.to(gradient), gradient, rtol=1e-4, atol=1e-5 * scale)
    assert bool(loss.isfinite())


@pytest.mark.parametrize("pairwise", [InfoNCE(smoothing=0.1), Sigmoid(), InfoNCE(hardest=5), Affinity()])
def test_no_matrix_of_all_pairs_is_ever_made(pairwise):
    """Neither forward nor backward: nothing is larger than the embeddings, whatever the number of pairs."""
    count, tile, largest = 300, 32, []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            for one in made if isinstance(made, tuple | list) else [made]:
                if isinstance(one, torch.Tensor):
                    largest.append(one.untyped_storage().nbytes() // one.element_size())
            return made

    outputs = _all(count, queue={"a": _rows(200, 20)})
    with Watch():
        _gradients(
            outputs,
            lambda made: Contrastive(pairwise=pairwise, tile=tile)(made, torch.arange(count) // 2).mean,
        )
    assert max(largest) <= count * (5 + tile) < count**2 / 8


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Contrastive(tile=0), "tile must be at least 1, found 0"),
        (lambda: InfoNCE(directions="booth"), r"directions is 'booth' \(did you mean 'both'\?\)"),
        (lambda: InfoNCE(smoothing=1.0), "smoothing must be at least 0 and below 1, found 1.0"),
        (lambda: InfoNCE(hardest=0), "hardest must be at least 1, found 0"),
        (lambda: InfoNCE(hardest=3, smoothing=0.1), "smoothing is 0.1: with hardest = 3"),
        (lambda: Contrastive()(_three(scale=None), CONCEPT), "Outputs have a scale, found none"),
        (
            lambda: Contrastive(pairwise=Affinity())(_three(), CONCEPT),
            "Affinity needs a model with a teacher",
        ),
        (
            lambda: Contrastive(pairwise=Affinity())(_three(teacher=_missing()), CONCEPT),
            "the teacher embeds no words of a sample of which the student does",
        ),
    ],
)
def test_what_cannot_be_is_said(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def _missing() -> Outputs:
    embeddings = _three().embeddings
    return Outputs(embeddings=embeddings | {"words": _embedding([1, 4])}, scale=SCALE)
