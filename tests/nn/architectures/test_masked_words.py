"""Masked words and pairs of texts: what is masked, what is read together, and that nothing depends on neighbours."""

from __future__ import annotations

import pytest
import torch
from nn.architectures.text_toys import (
    CLS,
    DRAWS,
    MASK,
    SEP,
    batch,
    masked_words,
    masking,
    replaced_tokens,
    sample,
)
from nn.toys import VOCABULARY

from sensorium.core import CapabilityError, ConfigError, Sample, Segment
from sensorium.core.masking import masked_count
from sensorium.data.item import Draws
from sensorium.nn.architectures.pairs import pairs
from sensorium.nn.architectures.replaced_tokens import sample as drawn_tokens
from sensorium.nn.layers.packing import packing

CLOSE = {"atol": 1e-10, "rtol": 0.0}
MIXED = [sample(0, 2), sample(1), sample(2, 3), sample(3, 2), sample(4, 2), sample(5, 2)]


def test_as_many_tokens_are_masked_as_their_number_says_and_none_is_special():
    stream = batch([sample(index) for index in range(40)]).streams["words"]
    drawn = masking()(stream, VOCABULARY)
    assert drawn.masked.sum(1).tolist() == masked_count(stream.lengths, 0.4).tolist()
    assert not torch.isin(stream.values[drawn.masked], torch.tensor([0, CLS, SEP, MASK])).any()
    assert torch.equal(drawn.ids[~drawn.masked], stream.values[~drawn.masked])
    torch.testing.assert_close(drawn.shares().sum(1), torch.ones(40, dtype=torch.float64))


def test_eight_of_ten_become_the_mask_one_anything_one_stays():
    long = Sample("long", (Segment("words", torch.tensor([CLS] + [5] * 20_000 + [SEP])),))
    drawn = masking(ratio=0.5)(batch([long]).streams["words"], VOCABULARY)
    seen = drawn.ids[drawn.masked]
    assert abs(float((seen == MASK).double().mean()) - 0.8) < 0.02
    assert abs(float((seen == 5).double().mean()) - 0.1) < 0.02  # and one of twenty of the random ones
    assert len(seen.unique()) == VOCABULARY


def test_the_draw_changes_with_the_seed_and_stays_without_corruption():
    samples = [sample(0), sample(1)]
    first, second = (masking()(batch(samples, seed=seed).streams["words"], VOCABULARY) for seed in (0, 1))
    assert not torch.equal(first.masked, second.masked)
    plain = masking()(batch(samples, Draws(corrupt=0.0)).streams["words"], VOCABULARY)
    assert not plain.masked.any()


@pytest.mark.parametrize(
    "wrong", [{"ratio": 1.5}, {"masked": 0.9, "random": 0.2}, {"random": -0.1}, {"mask": None}], ids=str
)
def test_masking_that_cannot_be(wrong):
    with pytest.raises(ConfigError, match="masking"):
        masking(**wrong)(batch([sample(0)]).streams["words"], VOCABULARY)


@pytest.mark.parametrize("relation", [False, True])
def test_batched_equals_single(relation: bool):
    net = masked_words(relation)
    whole = net(batch(MIXED))
    for index, one in enumerate(MIXED):
        alone = net(batch([one]))
        found, expected = alone.masked_tokens["words"], whole.masked_tokens["words"]
        mine = expected.owner == index
        for part in ("logits", "target", "weight"):
            torch.testing.assert_close(getattr(found, part), getattr(expected, part)[mine], **CLOSE)
        if relation:
            mine = whole.relations["words"].owner == index
            assert mine.sum() == (len(one.segments) > 1)
            torch.testing.assert_close(
                alone.relations["words"].logits, whole.relations["words"].logits[mine], **CLOSE
            )
            assert torch.equal(alone.relations["words"].target, whole.relations["words"].target[mine])


def test_predictions_are_those_of_the_direct_method():
    net = masked_words()
    stream = batch(MIXED).streams["words"]
    drawn = net.masking(stream, VOCABULARY)
    found = net(batch(MIXED)).masked_tokens["words"]
    torch.testing.assert_close(
        found.logits, net.logits(drawn.ids, stream.lengths, chosen=drawn.masked), **CLOSE
    )
    everything = net.logits(drawn.ids, stream.lengths)
    torch.testing.assert_close(
        found.logits, everything[packing(stream.padding()).pack(drawn.masked)], **CLOSE
    )
    assert torch.equal(found.target, stream.values[drawn.masked])


def test_texts_of_a_sample_are_read_as_one():
    """Each later text loses its first token; types count the texts; about half are exchanged."""
    many = [sample(index, 1 + index % 3) for index in range(60)]
    stream = batch(many).streams["words"]
    texts = pairs(stream, packing(stream.padding()).pack(stream.values), types=2)
    swapped = 0
    for row, one in enumerate(many):
        parts = [segment.value for segment in one.segments]
        if texts.exchanged[row]:
            parts[0], parts[1] = parts[1], parts[0]
            swapped += 1
        expected = torch.cat([parts[0], *(part[1:] for part in parts[1:])])
        kinds = [min(place, 1) for place, part in enumerate(parts) for _ in part[place > 0 :]]
        assert torch.equal(texts.ids[row, : texts.lengths[row]], expected)
        assert texts.types[row, : texts.lengths[row]].tolist() == kinds
        assert bool(texts.several[row]) == (len(parts) > 1)
    assert texts.owner.tolist() == list(range(60))
    assert 8 < swapped < 32


def test_pairs_are_judged_as_by_the_direct_method():
    net = masked_words(relation=True)
    of = batch(MIXED, Draws(corrupt=0.0))
    stream = of.streams["words"]
    texts = pairs(stream, packing(stream.padding()).pack(stream.values), types=2)
    expected = net.relations(texts.ids, texts.lengths, texts.types)[texts.several]
    torch.testing.assert_close(net(of).relations["words"].logits, expected, **CLOSE)
    with pytest.raises(CapabilityError, match="pairs"):
        masked_words().relations(texts.ids, texts.lengths)


@pytest.mark.parametrize(
    "net", [masked_words(), masked_words(True), replaced_tokens()], ids=["mlm", "nsp", "rtd"]
)
def test_a_batch_without_texts_passes_through(net):
    of = batch([sample(0)], DRAWS)
    empty = type(of)({"words": of.streams["words"].select(torch.tensor([False]))}, (), of.concept[:0])
    out = net(empty)
    assert out.masked_tokens["words"].logits.shape == (0, VOCABULARY)
    assert net(empty, embed_only=True).embeddings["words"].vectors.shape == (0, 16)


def test_embeddings_are_of_unmasked_texts():
    net = masked_words()
    of = batch(MIXED)
    found = net(of, embed_only=True).embeddings["words"]
    torch.testing.assert_close(found.vectors, net.embed("words", of.streams["words"]), **CLOSE)


def test_replaced_tokens_batched_equals_single_and_judges_what_was_replaced():
    net = replaced_tokens(masked=0.85, random=0.0)
    whole = net(batch(MIXED))
    judged = whole.replaced_tokens["words"]
    assert len(judged.logits) == sum(len(segment.value) for one in MIXED for segment in one.segments)
    assert 0 < int(judged.target.sum()) <= len(whole.masked_tokens["words"].target)
    for index, one in enumerate(MIXED):
        alone = net(batch([one])).replaced_tokens["words"]
        torch.testing.assert_close(alone.logits, judged.logits[judged.owner == index], **CLOSE)
        assert torch.equal(alone.target, judged.target[judged.owner == index])


def test_generator_and_judge_share_their_tables():
    net = replaced_tokens()
    names = dict(net.named_parameters())
    assert not [name for name in names if name.startswith("generator.embedding") and "project" not in name]
    out = net(batch(MIXED))
    (gradient,) = torch.autograd.grad(
        out.replaced_tokens["words"].logits.sum(), net.head.bias, allow_unused=True
    )[:1]
    assert gradient is None  # sampling lets nothing through


def test_tokens_are_drawn_with_the_probabilities_of_their_logits():
    logits = torch.tensor([0.1, 0.6, 0.3]).log().expand(30_000, 3)
    found = drawn_tokens(logits, torch.linspace(0, 1, 30_001)[:-1])
    torch.testing.assert_close(found.bincount() / 30_000, torch.tensor([0.1, 0.6, 0.3]), atol=1e-3, rtol=0)


def test_without_a_generator_nothing_can_be_learnt():
    net = replaced_tokens()
    net.generator = None
    with pytest.raises(CapabilityError, match="generator"):
        net(batch(MIXED))
