"""One step: the same losses and gradients however the batch is divided, and those of plain autograd."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import pytest
import torch
from nn.toys import WIDTH, batch, model, sample
from objectives import naive
from torch import nn
from training.kit import PARTS, Centred, exact, objectives

from sensorium.core import Batch
from sensorium.data.item import Draws
from sensorium.nn.architectures.taught import Taught
from sensorium.objectives import Affinity, Blend, Contrastive, InfoNCE, SameEmbeddings, SoftTokens
from sensorium.training.distributed import World
from sensorium.training.step import Learner, Step

CLOSE = {"atol": 1e-10, "rtol": 1e-10}
DRAWS = Draws(withhold=0.5, corrupt=0.4)


@pytest.fixture(autouse=True)
def _no_rounding():
    with exact():
        yield


def _gradients(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad for name, p in network.named_parameters() if p.grad is not None}


def _step(
    parts: list[Batch], contrastive: Contrastive | None = None, losses=None, seed: int = 0, network=None
):
    network = network if network is not None else model()
    losses = objectives() if losses is None else losses
    loss, named = Step(Learner(network, losses), losses, contrastive, World())(parts, seed)
    return loss, named, _gradients(network)


def _cut(items, sizes: list[int]) -> list[Batch]:
    parts, start = [], 0
    for size in sizes:
        parts.append(batch(items[start : start + size], DRAWS))
        start += size
    assert start == len(items)
    return parts


MIXED = [sample(index, PARTS[index % len(PARTS)]) for index in range(12)]
#: Each third lacks what the others have; ragged lengths everywhere.
SORTED = (
    [sample(i, ("caption", "turn")) for i in range(4)]
    + [sample(i, ("picture",)) for i in range(4, 8)]
    + [sample(i, ("picture", "wave", "caption")) for i in range(8, 12)]
)


@pytest.mark.parametrize("sizes", [[6, 6], [4, 4, 4], [1] * 12, [0, 7, 5, 0], [11, 1]])
@pytest.mark.parametrize("items", [MIXED, SORTED], ids=["mixed", "sorted"])
def test_micro_batches_equal_one_batch(items, sizes):
    """Every loss and every gradient, the contrastive one over the whole batch included."""
    loss, named, gradients = _step(_cut(items, [12]), Contrastive(weight=2.0))
    found_loss, found_named, found_gradients = _step(_cut(items, sizes), Contrastive(weight=2.0))
    torch.testing.assert_close(found_loss, loss, **CLOSE)
    assert found_named.keys() == named.keys()
    assert {"language", "masked/words", "masked/picture", "contrastive/picture-words"} <= named.keys()
    for name in named:
        torch.testing.assert_close(found_named[name], named[name], **CLOSE)
    assert found_gradients.keys() == gradients.keys()
    for name in gradients:
        torch.testing.assert_close(found_gradients[name], gradients[name], **CLOSE)


@pytest.mark.parametrize(
    "items",
    [
        MIXED,
        [sample(i, ("picture", "caption")) for i in range(9)],
        [sample(i % 3, ("picture", "caption", "turn")) for i in range(6)],  # several positives
    ],
    ids=["mixed", "pairs", "repeated"],
)
@pytest.mark.parametrize("micro", [1, 3])
def test_it_is_plain_autograd_over_the_whole_batch(items, micro):
    network, of = model(), batch(items, DRAWS)
    outputs = network(of)
    expected = {"language": naive.next_tokens(outputs.language, 0.1)} | naive.masked(outputs, of)
    weight = {"language": 1.0, "masked/words": 0.5, "masked/picture": 0.25, "masked/wave": 0.25}
    pairs = naive.contrastive(outputs, of.concept)
    total = sum(weight[name] * loss for name, loss in expected.items()) + 2.0 * naive.weighted_mean(pairs)
    total.backward()
    expected |= {name: loss for name, (loss, _) in pairs.items()}

    size = len(items) // micro
    loss, named, gradients = _step(_cut(items, [size] * micro), Contrastive(weight=2.0))
    torch.testing.assert_close(loss, total.detach(), **CLOSE)
    assert named.keys() == expected.keys()
    for name in named:
        torch.testing.assert_close(named[name], expected[name].detach().to(named[name].dtype), **CLOSE)
    for name, parameter in network.named_parameters():
        wanted = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(gradients[name], wanted, **CLOSE)
    assert gradients["contrastive_head.log_scale"].abs() > 1e-4


@pytest.mark.parametrize("parts", [[12], [5, 7]])
def test_without_a_contrastive_loss_or_without_others_it_is_the_rest(parts):
    both = _step(_cut(MIXED, parts), Contrastive(weight=2.0))
    sums = _step(_cut(MIXED, parts), None)
    aligned = _step(_cut(MIXED, parts), Contrastive(weight=2.0), losses={})
    torch.testing.assert_close(both[0], sums[0] + aligned[0], **CLOSE)
    assert both[1].keys() == sums[1].keys() | aligned[1].keys()
    assert "contrastive_head.log_scale" not in {n for n, g in sums[2].items() if bool(g.any())}
    for name, gradient in both[2].items():
        parts_of = [found[2][name] for found in (sums, aligned) if name in found[2]]
        torch.testing.assert_close(gradient, sum(parts_of), **CLOSE)


@pytest.mark.parametrize("sizes", [[0], [0, 0], [0, 1]])
def test_a_step_of_hardly_any_samples_has_finite_gradients(sizes):
    loss, _, gradients = _step(_cut([sample(0, ("picture",))][: sum(sizes)], sizes), Contrastive())
    assert bool(torch.isfinite(loss))
    assert gradients
    assert all(bool(gradient.isfinite().all()) for gradient in gradients.values())


class _Dropped(nn.Module):
    """The toy model with dropout on its embeddings."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = model()
        for block in self.inner.trunk.blocks:
            block.norm_attention = nn.Sequential(block.norm_attention, nn.Dropout(0.5))

    def forward(self, batch, embed_only=False):
        return self.inner(batch, embed_only=embed_only)


def test_what_a_model_draws_follows_from_the_seed():
    parts = _cut(MIXED, [6, 6])
    torch.manual_seed(5)
    first = _step(parts, Contrastive(), seed=1, network=_Dropped())
    torch.manual_seed(6)
    again = _step(parts, Contrastive(), seed=1, network=_Dropped())
    other = _step(parts, Contrastive(), seed=2, network=_Dropped())
    assert torch.equal(first[0], again[0])
    assert all(torch.equal(first[2][name], again[2][name]) for name in first[2])
    assert not torch.equal(first[0], other[0])


def test_both_passes_over_a_micro_batch_draw_the_same():
    """Else the gradient of the contrastive loss would belong to other embeddings."""
    network, parts = _Dropped(), _cut(MIXED, [6, 6])
    seen: list[torch.Tensor] = []

    class Watch(Learner):
        def forward(self, batch, embed_only=False):
            found = super().forward(batch, embed_only=embed_only)
            seen.append(found["vectors"]["words"].detach())
            return found

    Step(Watch(network, {}), {}, Contrastive(), World())(parts, 0)
    for first, second in zip(seen[:2], seen[2:], strict=True):
        assert torch.equal(first, second)


class _Lazy(Sequence):
    """Micro-batches that are made when they are asked for, and nobody is to keep."""

    def __init__(self, sizes: list[int]) -> None:
        self.sizes, self.made = sizes, []

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int) -> Batch:
        alive = [one for one in self.made if one() is not None]
        assert not alive, "an earlier micro-batch is still held"
        start = sum(self.sizes[:index])
        made = batch(MIXED[start : start + self.sizes[index]], DRAWS)
        self.made.append(weakref.ref(made.streams["words"].values))
        return made


def test_micro_batches_may_be_made_when_they_are_needed_and_only_one_is_held():
    """With the activations of one alone: those of the one before are gone when the next is computed."""
    held: list[weakref.ref] = []

    class Watch(Learner):
        def forward(self, batch, embed_only=False):
            assert all(one() is None for one in held), "activations of an earlier micro-batch are still held"
            return super().forward(batch, embed_only=embed_only)

    def remember(module, given, found):
        held.append(weakref.ref(found))

    network, losses, lazy = model(), objectives(), _Lazy([4, 4, 4])
    network.trunk.blocks[0].register_forward_hook(remember)
    loss, named = Step(Watch(network, losses), losses, Contrastive(weight=2.0), World())(lazy)
    assert len(lazy.made) == 6, "each is asked for twice"
    assert len(held) >= 6
    expected = _step(_cut(MIXED, [4, 4, 4]), Contrastive(weight=2.0))
    assert torch.equal(loss, expected[0])
    assert named.keys() == expected[1].keys()
    for name, gradient in expected[2].items():
        assert torch.equal(gradient, _gradients(network)[name])


def test_looking_at_embeddings_first_leaves_no_trace_in_running_statistics():
    """Each micro-batch counts once, in the pass that is learnt from."""

    def statistics(contrastive: Contrastive | None) -> tuple[int, torch.Tensor]:
        network, centre = model().train(), Centred(WIDTH)
        first = network.trunk.blocks[0]
        first.norm_attention = nn.Sequential(centre, first.norm_attention)
        _step(_cut(MIXED, [4, 4, 4]), contrastive, network=network)
        return int(centre.batches), centre.mean

    found, expected = statistics(Contrastive()), statistics(None)
    assert found[0] == expected[0] > 0
    assert torch.equal(found[1], expected[1])


@pytest.mark.parametrize("objective", [SoftTokens(stream="words"), SameEmbeddings(streams=["words"])])
def test_learning_from_a_teacher_does_not_depend_on_how_the_batch_is_divided(objective):
    def run(sizes: list[int]):
        network = Taught(student=model(0), teacher=model(1))
        contrastive = Contrastive(pairwise=Blend(parts=[InfoNCE(), Affinity()], weights=[1.0, 2.0]))
        return _step(_cut(MIXED, sizes), contrastive, {"soft": objective}, network=network)

    whole, cut = run([12]), run([5, 7])
    torch.testing.assert_close(cut[0], whole[0], **CLOSE)
    assert cut[1].keys() == whole[1].keys()
    assert cut[2].keys() == whole[2].keys()
    for name, gradient in whole[2].items():
        torch.testing.assert_close(cut[2][name], gradient, **CLOSE)
    assert all(name.startswith("student.") for name in whole[2])
