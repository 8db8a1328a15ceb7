from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
import torch

from sensorium.core import CheckpointError, ConfigError, DataError
from sensorium.modalities import Series


def walk(steps=50, channels=3, seed=0):
    return np.random.default_rng(seed).normal(5, 2, (steps, channels)).astype(np.float32)


def test_reads_arrays_lists_and_files(tmp_path):
    series, raw = Series(channels=3), walk()
    np.save(tmp_path / "a.npy", raw)
    buffer = io.BytesIO()
    np.save(buffer, raw)
    np.savetxt(tmp_path / "a.csv", raw, delimiter=",", header="a,b,c", comments="")
    for source in (raw, raw.astype(np.float64), torch.from_numpy(raw), raw.tolist(), tmp_path / "a.npy",
                   str(tmp_path / "a.npy"), buffer.getvalue(), tmp_path / "a.csv"):  # fmt: skip
        found = series.load_value(source)
        assert found.dtype == np.float32
        assert np.allclose(found, raw, rtol=1e-6)
    assert Series().load_value([1, 2, 3]).shape == (3, 1)


def test_prepares_the_first_steps():
    raw = walk(20)
    values = Series(channels=3, max_steps=8).prepare(raw)
    assert values.dtype == torch.float32
    assert torch.equal(values, torch.from_numpy(raw[:8]))


def test_fit_learns_each_channel_and_saves_it(tmp_path):
    series = Series(channels=2)
    raws = [walk(n, 2, seed=n) * [1, 100] for n in (10, 40)]
    series.fit(series.load_value(raw) for raw in raws)
    values = torch.cat([series.prepare(series.read(raw)) for raw in raws])
    assert torch.allclose(values.mean(0), torch.zeros(2), atol=1e-5)
    assert torch.allclose(values.std(0, correction=0), torch.ones(2), atol=1e-5)
    series.save(tmp_path)
    again = Series(channels=2)
    again.load(tmp_path)
    raw = series.read(raws[0])
    assert torch.equal(again.prepare(raw), series.prepare(raw))
    assert torch.equal(pickle.loads(pickle.dumps(series)).prepare(raw), series.prepare(raw))
    with pytest.raises(CheckpointError, match="expected 3 channels, found 2"):
        Series(channels=3).load(tmp_path)


def test_given_constants_are_not_relearnt():
    series = Series(channels=1, mean=[5.0], std=[2.0])
    series.fit([walk(10, 1)])
    assert series.prepare(np.array([[7.0]], np.float32)).item() == 1.0


def test_noise_depends_on_the_generator_only():
    series, raw = Series(channels=3, noise=0.1), walk(1000)
    one, same, other = (series.prepare(raw, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert (one - series.prepare(raw)).std().item() == pytest.approx(0.1, rel=0.1)
    assert torch.equal(series.prepare(raw), torch.from_numpy(raw))


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (walk(5, 2), r"expected 3 channels, found 2 in the shape \[5, 2\]"),
        (walk(3, 5), "transposed"),
        (b"a,b\n1,2\n", r"expected 3 channels, found 2 \(a, b\)"),
        (np.zeros((0, 3)), "no steps"),
        (np.zeros((2, 3, 4)), r"the shape \[2, 3, 4\]"),
        ([[1, 2, 3], [4, 5]], "rows of different lengths"),
        ([["a", "b", "c"]], "expected numbers"),
        (np.array([[1, 2, 3], [4, np.nan, np.inf]]), "2 values are not finite, the first is nan in step 2"),
        (np.array([[1, 2, 1e300]]), "not finite"),
        (b"1,2,nan\n", "not finite"),
        (object(), "expected numbers"),
        (None, "expected numbers"),
    ],
)  # fmt: skip
def test_refuses(source, reason):
    with pytest.raises(DataError, match=reason) as error:
        Series(channels=3).load_value(source)
    assert "0x7" not in str(error.value)


def test_wrong_channels_names_what_was_expected():
    with pytest.raises(DataError, match="no column 'z': found x, y"):
        Series(channels=2, columns=["x", "z"]).read(b"x,y\n1,2\n")
    with pytest.raises(DataError, match=r"expected 2 channels \(x, z\), found 3"):
        Series(channels=2, columns=["x", "z"]).read(walk())


def test_a_fixed_number_of_steps():
    series = Series(channels=3, steps=10)
    assert series.prepare(series.load_value(walk(10))).shape == (10, 3)
    with pytest.raises(DataError, match="expected 10 steps, found 11"):
        series.load_value(walk(11))


def test_size_and_show():
    series = Series(channels=2, columns=["<b>", "y"], rate=50.0)
    raw = walk(2000, 2)
    assert series.size(raw) == (2000.0, "steps")
    shown = series.show(raw)
    assert shown.count("<polyline") == 2
    assert "&lt;b&gt;" in shown
    assert "<b>" not in shown
    assert "2000 steps, 40 s" in shown
    assert len(shown) < 20_000
    assert "<polyline" in Series(channels=2).show(raw[:1])


def test_blank_is_like_a_prepared_recording():
    assert Series(channels=3).blank().shape == (1, 3)
    assert Series(channels=3, steps=7).blank().shape == (7, 3)
    assert Series(channels=3).blank().dtype == Series(channels=3).prepare(walk()).dtype


def test_wrong_settings():
    for settings in (
        {"channels": 0},
        {"steps": 0},
        {"columns": ["a", "b"]},
        {"mean": [0.0]},
        {"mean": [0.0], "std": [0.0]},
        {"mean": [0.0, 1.0], "std": [1.0, 1.0]},
        {"rate": 0.0},
        {"noise": -1.0},
    ):
        with pytest.raises(ConfigError, match="Series"):
            Series(**settings)
