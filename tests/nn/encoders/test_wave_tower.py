"""The tower over raw samples against transformers, and against itself in other batches."""

from __future__ import annotations

import pytest
import torch
from nn.reference import assert_same
from nn.speech import KINDS, config, mask_of, pair, tower, waves
from transformers import Wav2Vec2Model

from sensorium.core import DataError


@pytest.mark.parametrize("how", ["default", "random"])
@pytest.mark.parametrize(("norm", "stable"), KINDS)
@pytest.mark.parametrize("kernel", [8, 5])
@torch.no_grad()
def test_parity_at_equal_lengths(norm: str, stable: bool, how: str, kernel: int):
    theirs, ours = pair(Wav2Vec2Model, config(norm, stable, num_conv_pos_embeddings=kernel), tower, how)
    values, lengths = waves(203, 203)
    expected = theirs(values[..., 0])
    found = ours(values, lengths)
    assert_same(found.rows.unflatten(0, (2, -1)), expected.last_hidden_state)
    assert_same(found.pooled, expected.last_hidden_state.mean(1))
    local, _ = ours.local(values, lengths)
    assert_same(local.unflatten(0, (2, -1)), expected.extract_features)


@pytest.mark.parametrize("stable", [False, True])
@torch.no_grad()
def test_parity_with_padding(stable: bool):
    """Where no norm spans time, the reference with an attention mask is independent of padding too."""
    theirs, ours = pair(Wav2Vec2Model, config("layer", stable), tower)
    values, lengths = waves(203, 87, 120)
    expected = theirs(values[..., 0], attention_mask=mask_of(lengths)).last_hidden_state
    found = ours(values, lengths)
    for row, segment in zip(expected, found.segments(), strict=True):
        assert_same(segment, row[: len(segment)])


@pytest.mark.parametrize(("norm", "stable"), KINDS)
@torch.no_grad()
def test_each_segment_as_the_reference_reads_it_alone(norm: str, stable: bool):
    theirs, ours = pair(Wav2Vec2Model, config(norm, stable), tower)
    values, lengths = waves(203, 87, 20)
    for index, segment in enumerate(ours(values, lengths).segments()):
        alone = values[index : index + 1, : lengths[index], 0]
        assert_same(segment, theirs(alone).last_hidden_state[0])


@torch.no_grad()
def test_what_lies_beyond_the_end_is_never_seen():
    ours = tower(config("group")).double().eval()
    values, lengths = waves(203, 87)
    expected = ours(values, lengths).rows
    values[1, 87:] = 1e3
    assert_same(ours(values, lengths).rows, expected)
    wider = torch.cat([values, torch.full((2, 50, 1), 7.0)], 1)
    assert_same(ours(wider, lengths).rows, expected)


def test_no_segments_give_every_parameter_a_gradient():
    ours = tower(config()).train()
    found = ours(torch.zeros(0, 1, 1), torch.zeros(0, dtype=torch.long), torch.zeros(0, dtype=torch.long))
    assert found.rows.shape == (0, 32)
    (found.rows.sum() + found.pooled.sum()).backward()
    assert {name for name, p in ours.named_parameters() if p.grad is None} == set()


def test_too_short():
    with pytest.raises(DataError, match="19 samples is shorter than the 20 of one frame"):
        tower(config()).double()(*waves(203, 19))


def test_training_draws_from_the_seed_alone():
    """With layers left out and spans hidden, but no dropout, a segment is the same alone and among others."""
    off = dict.fromkeys(("hidden_dropout", "activation_dropout", "attention_dropout"), 0.0)
    torch.manual_seed(0)
    ours = tower(config(layerdrop=0.5, **off)).double().train()
    ours.augment.channels = (0.3, 4, 1)
    values, lengths = waves(203, 87, 160)
    seed = torch.tensor([5, 6, 7])
    with torch.no_grad():
        together = ours(values, lengths, seed).segments()
        for index in range(3):
            alone = ours(values[index : index + 1, : lengths[index]], lengths[index, None], seed[index, None])
            assert_same(alone.rows, together[index])
        other = ours(values, lengths, seed + 1).rows
    assert (other - torch.cat(together)).abs().max() > 0.1
    with torch.no_grad():
        assert (ours(values, lengths).rows - torch.cat(together)).abs().max() > 0.1, (
            "without a seed nothing is drawn"
        )
