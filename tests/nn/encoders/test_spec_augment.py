"""Spans of what share, where, and of which seed."""

from __future__ import annotations

import torch

from sensorium.nn.encoders.spec_augment import SpecAugment, spans


def test_spans_lie_within_their_segment():
    lengths = torch.tensor([100, 40, 9, 3, 2, 1])
    found = spans(torch.arange(6), lengths, share=0.3, length=3, least=1)
    assert found.shape == (6, 100)
    place = torch.arange(100)
    assert not (found & (place >= lengths[:, None])).any()
    assert found[3, :3].all(), "one span of 3 fills a segment of 3"
    assert not found[4:].any(), "nor does it fit into one of 2"
    for row in found:
        changes = torch.cat([torch.zeros(1), row.float(), torch.zeros(1)]).diff()
        runs = (changes == -1).nonzero()[:, 0] - (changes == 1).nonzero()[:, 0]
        assert (runs >= 3).all()


def test_share():
    """Of many segments, as many spans as asked for, some of them overlapping."""
    found = spans(torch.arange(400), torch.full((400,), 500), share=0.65, length=10, least=2)
    # Starts are at different places: the share hidden is nearly that of independent draws, 1 - exp(-0.65).
    assert abs(found.float().mean() - 0.48) < 0.01
    single = spans(torch.arange(2000), torch.full((2000,), 20), share=0.25, length=10, least=0)
    assert abs((single.sum(1) > 0).float().mean() - 0.5) < 0.04, "half a span: one in every second segment"


def test_spans_do_not_depend_on_the_batch():
    seeds, lengths = torch.tensor([3, 4]), torch.tensor([30, 200])
    both = spans(seeds, lengths, 0.5, 4, 1)
    assert torch.equal(both[:1, :30], spans(seeds[:1], lengths[:1], 0.5, 4, 1))
    assert spans(seeds[:0], lengths[:0], 0.5, 4, 1).shape == (0, 0)


def test_channels():
    augment = SpecAugment(width=16, channel_share=0.5, channel_length=4, channel_least=1)
    rows = torch.ones(5, 16)
    found = augment.blank(rows, torch.tensor([1, 2]), torch.tensor([0, 0, 1, 1, 1]))
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[2], found[4])
    assert not torch.equal(found[0], found[2])
    assert set(found.unique().tolist()) == {0.0, 1.0}
