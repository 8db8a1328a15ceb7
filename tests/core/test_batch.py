"""Streams and batches: selection, padding, and moving between devices."""

from __future__ import annotations

from dataclasses import fields

import torch
from nn.toys import batch, sample

BATCH = batch([sample(0), sample(1, ("caption",)), sample(2, ("wave", "turn"))])


def test_padding_is_true_where_a_position_is_real():
    wave = BATCH.streams["wave"]
    assert wave.padding().sum(1).tolist() == wave.lengths.tolist()
    assert wave.padding().shape == wave.values.shape[:2]


def test_some_segments_can_be_selected_by_mask_or_index():
    words = BATCH.streams["words"]
    for rows in (words.owner == 2, (words.owner == 2).nonzero()[:, 0]):
        found = words.select(rows)
        assert found.owner.tolist() == [2, 2]
        for field in fields(words):
            assert torch.equal(getattr(found, field.name), getattr(words, field.name)[words.owner == 2])
    assert len(words.select(torch.zeros(len(words), dtype=torch.bool))) == 0


def test_everything_moves_to_a_device():
    moved = BATCH.to("meta")
    assert moved.concept.device.type == "meta"
    assert moved.keys == BATCH.keys
    for stream in moved.streams.values():
        assert {getattr(stream, field.name).device.type for field in fields(stream)} == {"meta"}
    assert len(moved) == len(BATCH) == 3
