"""Several rows from one feature."""

from __future__ import annotations

import pytest
import torch
from nn.connectors.toys import EXACT, check_no_rows, features, linear

from sensorium.core import ConfigError
from sensorium.nn.connectors.several import Several


def test_rows_of_a_feature_follow_one_another():
    projector, given = linear(3, 8), features([2, 1], 3)
    found = Several(projector=projector, rows=4)(given)
    torch.testing.assert_close(found.rows, projector.project(given.rows).view(12, 2), **EXACT)
    assert found.lengths.tolist() == [8, 4]


def test_no_rows_and_what_cannot_be():
    check_no_rows(Several(projector=linear(3, 8), rows=2), 3)
    for rows in (0, 3):
        with pytest.raises(ConfigError, match="width 8 cannot be cut"):
            Several(projector=linear(3, 8), rows=rows)
