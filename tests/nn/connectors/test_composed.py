"""Connectors of connectors, against each by itself."""

from __future__ import annotations

import pytest
import torch
from nn.connectors.toys import EXACT, Same, check_no_rows, features, linear

from sensorium.core import ConfigError
from sensorium.nn.connectors.composed import Chain, Framed, PieceByPiece
from sensorium.nn.connectors.merged import Merged
from sensorium.nn.connectors.projector import Projector
from sensorium.nn.connectors.resampler import Resampler, resampler_block
from sensorium.nn.connectors.space_time import SpaceTimePooled
from sensorium.nn.layers.norms import LayerNorm


def resampler() -> Resampler:
    torch.manual_seed(1)
    block = resampler_block(width=4, heads=2)
    return Resampler(width=4, latents=2, depth=1, block=block, norm_out=LayerNorm(width=4)).double()


def test_one_after_another():
    first, second = SpaceTimePooled(tokens=3, projector=linear(4, 6)), Projector(inner=6, width=7).double()
    chain = Chain(connectors=[first, second])
    given = features([6, 3], 4)
    found = chain(given)
    torch.testing.assert_close(found.rows, second.project(first(given).rows), **EXACT)
    assert found.lengths.tolist() == [5, 4]
    assert chain.width == 7
    check_no_rows(chain, 4)
    with pytest.raises(ConfigError, match="at least one"):
        Chain(connectors=[])


def test_piece_by_piece():
    inner = resampler()
    given = features([6, 3], 4)
    found = PieceByPiece(tokens=3, connector=inner)(given)
    alone = [
        inner(features([3], 4).__class__(x, torch.tensor([3]), given.pooled[:1])).rows
        for x in given.rows.split(3)
    ]
    torch.testing.assert_close(found.rows, torch.cat(alone), **EXACT)
    assert found.lengths.tolist() == [4, 2]
    assert not torch.allclose(inner(given).rows[:2], found.rows[:2])
    check_no_rows(PieceByPiece(tokens=3, connector=inner), 4)
    with pytest.raises(ConfigError, match="pieces of 4 tokens"):
        PieceByPiece(tokens=4, connector=inner)(given)


def test_pieces_have_the_layout_of_their_segment():
    merged = Merged(factor=2, norm=torch.nn.Identity(), projector=Same(4))
    given, layout = features([8, 4], 1), torch.tensor([[2, 2], [2, 2]])
    found = PieceByPiece(tokens=4, connector=merged)(given, layout)
    assert torch.equal(found.rows, given.rows.view(3, 4))
    assert found.lengths.tolist() == [2, 1]


def test_frames_are_told_apart():
    connector = Framed(width=4, tokens=3, frames=2, connector=linear(4))
    torch.nn.init.normal_(connector.place.weight)
    connector.double()
    given = features([6, 3], 4)
    places = connector.place.weight[torch.tensor([0, 0, 0, 1, 1, 1, 0, 0, 0])]
    torch.testing.assert_close(
        connector(given).rows, connector.connector.project(given.rows + places), **EXACT
    )
    check_no_rows(connector, 4)
    with pytest.raises(ConfigError, match="places for 2 frames, found a segment of 3"):
        connector(features([9], 4))
