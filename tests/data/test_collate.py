"""From Items to a Batch: padding, empty streams, and where each segment stands."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from nn.toys import MODALITIES, batch, sample

from sensorium.core import ConfigError, Sample, Segment
from sensorium.data.collate import collate, pad
from sensorium.data.item import prepare


def test_a_modality_that_nobody_has_is_a_stream_of_no_rows():
    found = batch([sample(0, ("caption",)), sample(1, ("caption",))]).streams
    assert list(found) == list(MODALITIES)
    for name, stream in found.items():
        assert len(stream) == (2 if name == "words" else 0)
        assert stream.values.shape[1:] == (
            (stream.values.shape[1],) if name == "words" else MODALITIES[name].blank().shape
        )
        assert stream.values.dtype == MODALITIES[name].blank().dtype
        for field in (
            "lengths",
            "owner",
            "order",
            "ordinal",
            "turn",
            "content",
            "target",
            "hidden",
            "corrupt",
            "seed",
        ):
            assert getattr(stream, field).shape == (len(stream),)


def test_no_items_make_a_batch_of_no_samples():
    found = collate([], MODALITIES)
    assert len(found) == 0
    assert found.concept.shape == (0,)
    assert found.concept.dtype == torch.long
    assert all(len(stream) == 0 for stream in found.streams.values())


def test_segments_keep_their_owner_order_turn_and_ordinal():
    words = torch.tensor([1, 5, 2])
    one = Sample(
        "a",
        (
            Segment("words", words),
            Segment("picture", torch.zeros(8, 8, 3).double()),
            Segment("words", words, target=True),
            Segment("words", words, role="user", turn=1),
            Segment("words", words, role="assistant", turn=1, target=True),
        ),
    )
    stream = batch([sample(1, ("picture",)), one]).streams["words"]
    assert stream.owner.tolist() == [1, 1, 1, 1]
    assert stream.order.tolist() == [0, 2, 3, 4]
    assert stream.ordinal.tolist() == [0, 1, 0, 1]
    assert stream.turn.tolist() == [0, 0, 1, 1]
    assert stream.content.tolist() == [True, True, False, False]
    assert stream.target.tolist() == [False, True, False, True]


def test_padding_is_zero_and_the_lengths_say_what_is_real():
    found = batch([sample(index) for index in range(5)]).streams["wave"]
    for row, length, index in zip(found.values, found.lengths.tolist(), range(5), strict=True):
        truth = sample(index).segments[1].value
        assert length == len(truth)
        assert torch.equal(row[:length], truth)
        assert not row[length:].any()
    assert found.values.shape[1] == found.lengths.max()


def test_padding_never_writes_into_the_values_it_is_given():
    """They may come from the cache."""
    kept = [torch.ones(2), torch.ones(3)]
    padded, _ = pad(kept, torch.ones(1))
    same, _ = pad(kept[:1], torch.ones(1))
    padded.zero_()
    same.zero_()
    assert all(bool(value.all()) for value in kept)


def test_values_that_differ_along_another_axis_are_refused():
    with pytest.raises(ConfigError, match=r"first axis alone, found \[5, 4, 3\] and \[7, 2, 3\]"):
        pad([torch.zeros(5, 4, 3), torch.zeros(7, 2, 3)], torch.zeros(1, 2, 3))


def test_what_is_asked_about_segments_is_filled_up():
    asked = [torch.tensor([4, 5]), torch.tensor([6])]
    items = [
        replace(item, pieces=tuple(replace(piece, asked=ids) for piece in item.pieces))
        for item, ids in zip(
            (prepare(sample(i, ("caption",)), MODALITIES) for i in range(2)), asked, strict=True
        )
    ]
    found = collate(items, MODALITIES).streams
    assert found["words"].asked.tolist() == [[4, 5], [6, -1]]
    assert found["words"].select(torch.tensor([1])).asked.tolist() == [[6, -1]]
    assert found["picture"].asked is None
