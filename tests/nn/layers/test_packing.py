"""Packed rows: real tokens to their places and back, and whose they are."""

from __future__ import annotations

import torch

from sensorium.nn.layers.packing import Packing, dense, packing, ragged_positions, real_places

LENGTHS = torch.tensor([3, 0, 5, 1])


def test_real_rows_go_to_their_places_and_back():
    place = packing(real_places(LENGTHS, 5))
    rows = torch.arange(18.0).reshape(9, 2) + 1
    padded = place.pad(rows)
    assert padded.shape == (4, 5, 2)
    assert torch.equal(place.pack(padded), rows)
    for sequence, length in enumerate(LENGTHS.tolist()):
        assert not padded[sequence, length:].any()
    assert torch.equal(padded[2], rows[3:8])


def test_real_tokens_need_not_come_first():
    place = packing(torch.tensor([[False, True, True], [True, False, True]]))
    assert place.pad(torch.arange(4) + 1).tolist() == [[0, 1, 2], [3, 0, 4]]
    assert place.owners(torch.device("cpu")).tolist() == [0, 0, 1, 1]


def test_owners():
    device = torch.device("cpu")
    assert packing(real_places(LENGTHS, 5)).owners(device).tolist() == [0] * 3 + [2] * 5 + [3]
    assert dense(3, 2).owners(device).tolist() == [0, 0, 1, 1, 2, 2]
    assert dense(3, 0).owners(device).tolist() == []
    assert Packing(torch.tensor([7, 1]), 3, 3).owners(device).tolist() == [2, 0]


def test_without_padding_nothing_is_moved():
    place, rows = packing(torch.ones(2, 3, dtype=torch.bool)), torch.arange(6.0)
    assert place == dense(2, 3)
    assert place.pad(rows).data_ptr() == rows.data_ptr()
    assert place.pack(place.pad(rows)).data_ptr() == rows.data_ptr()


def test_positions_within_segments():
    assert ragged_positions(LENGTHS).tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 0]
    assert ragged_positions(LENGTHS[:0]).tolist() == []
