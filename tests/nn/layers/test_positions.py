"""Sine-cosine positions against those of transformers."""

from __future__ import annotations

import torch
from transformers.models.videomae.modeling_videomae import get_sinusoid_encoding_table
from transformers.models.vit_mae.modeling_vit_mae import build_2d_sinusoidal_position_embedding
from transformers.models.whisper.modeling_whisper import sinusoids

from sensorium.nn.layers.positions import Waves, sin_cos, waves


def same(found: torch.Tensor, expected: torch.Tensor, atol: float = 1e-6) -> None:
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, atol=atol, rtol=0)


def test_one_axis_after_the_other():
    expected = build_2d_sinusoidal_position_embedding(3, 14, 24)
    same(sin_cos((3, 14), 24), expected)


def test_columns_before_rows_are_those_of_mae():
    """Its reference swaps the halves of the table for that."""
    rows_first = build_2d_sinusoidal_position_embedding(14, 14, 48)
    same(sin_cos((14, 14), 48, order=[1, 0]), torch.cat([rows_first[:, 24:], rows_first[:, :24]], 1))


def test_three_axes_and_channels_left_over():
    table = sin_cos((2, 3, 4), 20)
    assert table.shape == (24, 20)
    assert not bool(table[:, 18:].any())
    same(table[7], torch.cat([sin_cos((2,), 6)[0], sin_cos((3,), 6)[1], sin_cos((4,), 6)[3], torch.zeros(2)]))


def test_alternating_waves_are_those_of_videomae():
    same(waves(50, 18, alternating=True), get_sinusoid_encoding_table(50, 18)[0], atol=0)


def test_slowest_waves_are_those_of_whisper():
    same(waves(30, 16, slowest=True), sinusoids(30, 16), atol=5e-6)


def test_plain_waves_are_those_of_one_axis():
    same(waves(20, 16), sin_cos((20,), 16), atol=5e-6)


def test_all_places_of_a_grid_are_counted():
    with torch.device("meta"):
        positions = Waves(length=8, width=6, alternating=True)
    assert not positions.state_dict()
    same(positions((2, 2, 2)), waves(8, 6, alternating=True), atol=0)
    same(positions((3, 2, 2)), waves(12, 6, alternating=True), atol=0)
    assert positions.double()((1, 2, 2)).dtype == torch.float64
