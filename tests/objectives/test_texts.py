"""Objectives of text encoders: counts are known before anything is drawn, and parts of a batch add up to the whole."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from nn.architectures.text_toys import batch, masked_words, replaced_tokens, sample
from nn.toys import batch as mixed_batch
from nn.toys import model as unified
from nn.toys import sample as mixed_sample

from sensorium.core import Batch
from sensorium.data.item import Draws
from sensorium.objectives import MaskedPatches, MaskedTokens, NextSentence, Objective, ReplacedTokenDetection

CLOSE = {"atol": 1e-12, "rtol": 1e-12}
MANY = [sample(index, 1 + index % 3) for index in range(9)]
CASES = {
    "masked, per text": (masked_words(), MaskedTokens(stream="words")),
    "masked, per token": (masked_words(), MaskedTokens(stream="words", ratio=0.4)),
    "masked in pairs": (masked_words(relation=True), MaskedTokens(stream="words", ratio=0.4)),
    "next sentence": (masked_words(relation=True), NextSentence(stream="words")),
    "generator": (replaced_tokens(), MaskedTokens(stream="words", ratio=0.4)),
    "replaced": (replaced_tokens(), ReplacedTokenDetection(stream="words")),
}


@pytest.mark.parametrize("case", CASES)
def test_parts_add_up(case: str):
    net, objective = CASES[case]
    parts = [batch(MANY[:4]), batch(MANY[4:5]), batch(MANY[5:])]
    count, total = _sum(objective, net, batch(MANY))
    counts, totals = zip(*(_sum(objective, net, part) for part in parts), strict=True)
    assert count == sum(counts) > 0
    torch.testing.assert_close(torch.stack(totals).sum(), total, **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_counts_are_the_number_of_parts(case: str):
    net, objective = CASES[case]
    out, (count, _) = net(batch(MANY)), _sum(objective, net, batch(MANY))
    if case == "masked, per text":
        assert count == sum(len(one.segments) for one in MANY)
    elif isinstance(objective, MaskedTokens):
        assert count == len(out.masked_tokens["words"].target)
    elif isinstance(objective, NextSentence):
        assert count == len(out.relations["words"].target) == 6
    else:
        assert count == len(out.replaced_tokens["words"].target)


def test_values():
    net = masked_words(relation=True)
    of = batch(MANY)
    out = net(of)
    found = out.masked_tokens["words"]
    expected = F.cross_entropy(found.logits, found.target)
    torch.testing.assert_close(_mean(MaskedTokens(stream="words", ratio=0.4), net, of), expected, **CLOSE)
    pairs = out.relations["words"]
    expected = F.cross_entropy(pairs.logits, pairs.target)
    torch.testing.assert_close(_mean(NextSentence(stream="words"), net, of), expected, **CLOSE)
    net = replaced_tokens()
    found = net(of).replaced_tokens["words"]
    expected = F.binary_cross_entropy_with_logits(found.logits, found.target.double())
    torch.testing.assert_close(_mean(ReplacedTokenDetection(stream="words"), net, of), expected, **CLOSE)


@pytest.mark.parametrize(
    "objective", [NextSentence(), ReplacedTokenDetection(), MaskedTokens()], ids=lambda o: type(o).__name__
)
def test_outputs_of_another_network_give_no_loss(objective: Objective):
    assert objective.totals(unified()(mixed_batch([mixed_sample(0)]))) == {}


@torch.no_grad()
def test_words_and_patches_of_one_sample_are_masked_together():
    """Joint masking: what is missing of each modality is restored from what is left of all."""
    net = unified()
    parts = ("picture", "caption")
    of = mixed_batch([mixed_sample(1, parts)], Draws(corrupt=1.0, withhold=0.0), seed=2)
    assert of.streams["picture"].corrupt.all()
    assert of.streams["words"].corrupt.all()
    objectives = [MaskedTokens(stream="words"), MaskedPatches()]
    out = net(of)
    losses = {name: total for objective in objectives for name, total in objective.totals(out).items()}
    counts = {name: count for objective in objectives for name, count in objective.counts(of).items()}
    assert counts == {"masked/words": 1, "masked/picture": 1, "masked/wave": 0}
    assert all(float(losses[name]) > 0 for name, count in counts.items() if count)
    words, patches = out.masked_tokens["words"], out.masked_patches["picture"]
    assert len(words.target) > 0
    assert 0 < len(patches.target) < 4  # of four patches
    # Each is restored with a look at the other: a change of what is left of the picture changes both.
    stream = of.streams["picture"]
    hidden = net.encoders["picture"](stream.values, stream.lengths, stream.corrupt, stream.seed).masked[0]
    row, column = divmod(int((~hidden).nonzero()[0, 0]), 2)
    values = stream.values.clone()
    values[0, row * 4 : row * 4 + 4, column * 4 : column * 4 + 4] += 1.0
    streams = dict(of.streams) | {"picture": replace(stream, values=values)}
    changed = net(replace(of, streams=streams))
    assert not torch.allclose(changed.masked_tokens["words"].logits, words.logits)
    assert not torch.allclose(changed.masked_patches["picture"].values, patches.values)


def _sum(objective: Objective, net, of: Batch) -> tuple[int, torch.Tensor]:
    ((name, count),) = objective.counts(of).items()
    return count, objective.totals(net(of))[name]


def _mean(objective: Objective, net, of: Batch) -> torch.Tensor:
    count, total = _sum(objective, net, of)
    return total / count
