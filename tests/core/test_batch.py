"""Streams and batches: selection, padding, and moving between devices."""

from __future__ import annotations

from dataclasses import fields

import torch
from nn.toys import batch, sample

from sensorium.core.batch import Stream

BATCH = batch([sample(0), sample(1, ("caption",)), sample(2, ("wave", "turn"))])


def parts(stream: Stream) -> dict[str, torch.Tensor]:
    """The fields that it has."""
    found = {field.name: getattr(stream, field.name) for field in fields(stream)}
    return {name: part for name, part in found.items() if part is not None}


def test_padding_is_true_where_a_position_is_real():
    wave = BATCH.streams["wave"]
    assert wave.padding().sum(1).tolist() == wave.lengths.tolist()
    assert wave.padding().shape == wave.values.shape[:2]


def test_some_segments_can_be_selected_by_mask_or_index():
    words = BATCH.streams["words"]
    for rows in (words.owner == 2, (words.owner == 2).nonzero()[:, 0]):
        found = words.select(rows)
        assert found.owner.tolist() == [2, 2]
        for name, part in parts(words).items():
            assert torch.equal(getattr(found, name), part[words.owner == 2])
    assert len(words.select(torch.zeros(len(words), dtype=torch.bool))) == 0


def test_everything_moves_to_a_device():
    moved = BATCH.to("meta")
    assert moved.concept.device.type == "meta"
    assert moved.keys == BATCH.keys
    for stream in moved.streams.values():
        assert {part.device.type for part in parts(stream).values()} == {"meta"}
    assert len(moved) == len(BATCH) == 3
