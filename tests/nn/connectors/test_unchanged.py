"""Rows as they are."""

from __future__ import annotations

from nn.connectors.toys import features

from sensorium.nn.connectors.unchanged import Unchanged


def test_rows_are_features():
    given = features([2, 3], 4)
    found = Unchanged(width=4)(given)
    assert found.rows is given.rows
    assert found.lengths is given.lengths


def test_no_rows():
    connector = Unchanged(width=4)
    assert connector(features([], 4)).rows.shape == (0, 4)
