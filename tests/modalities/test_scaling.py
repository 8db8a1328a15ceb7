from __future__ import annotations

import numpy as np
import pytest

from sensorium.core import CheckpointError, DataError
from sensorium.modalities.scaling import Scaling


def test_learns_the_moments_of_all_rows_together():
    rng = np.random.default_rng(0)
    parts = [rng.normal(1000, 2, (n, 3)).astype(np.float32) for n in (1, 50, 0, 300)]
    scaling = Scaling.learn(parts)
    rows = np.concatenate(parts).astype(np.float64)
    assert np.allclose(scaling.mean, rows.mean(0), rtol=1e-12)
    assert np.allclose(scaling.std, rows.std(0), rtol=1e-9)


def test_a_constant_channel_is_not_blown_up():
    assert Scaling.learn([np.full((5, 1), 3.3, np.float32)]).std == (1.0,)


def test_no_rows():
    with pytest.raises(DataError, match="no training data"):
        Scaling.learn([])


def test_saves_exactly_and_refuses_damage(tmp_path):
    file = tmp_path / "s.json"
    scaling = Scaling((0.1, -1e-7), (1 / 3, 2.0))
    scaling.save(file)
    assert Scaling.load(file, 2) == scaling
    with pytest.raises(CheckpointError, match="expected 3 channels, found 2"):
        Scaling.load(file, 3)
    for damaged in ("{", "[]", '{"mean": 1, "std": 2}', '{"mean": ["a"], "std": [1]}'):
        file.write_text(damaged)
        with pytest.raises(CheckpointError, match="expected"):
            Scaling.load(file, 1)
    file.write_text('{"mean": [0], "std": [0]}')
    with pytest.raises(CheckpointError, match="above 0"):
        Scaling.load(file, 1)
    with pytest.raises(CheckpointError, match="cannot be read"):
        Scaling.load(tmp_path / "none.json", 1)
