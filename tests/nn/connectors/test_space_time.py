"""Means over space and time, written out for each clip."""

from __future__ import annotations

import pytest
import torch
from nn.connectors.toys import EXACT, check_no_rows, features, linear

from sensorium.core import ConfigError
from sensorium.nn.connectors.space_time import SpaceTimePooled


def test_frames_then_places():
    projector = linear(3)
    given = features([12, 4], 3)
    found = SpaceTimePooled(tokens=4, projector=projector)(given)
    expected = []
    for clip in (given.rows[:12].view(3, 4, 3), given.rows[12:].view(1, 4, 3)):
        expected += [frame.mean(0) for frame in clip]
        expected += [clip[:, place].mean(0) for place in range(4)]
    torch.testing.assert_close(found.rows, projector.project(torch.stack(expected)), **EXACT)
    assert found.lengths.tolist() == [3 + 4, 1 + 4]


def test_no_rows_and_what_cannot_be():
    check_no_rows(SpaceTimePooled(tokens=4, projector=linear(3)), 3)
    with pytest.raises(ConfigError, match="pieces of 4 tokens"):
        SpaceTimePooled(tokens=4, projector=linear(3))(features([6], 3))
