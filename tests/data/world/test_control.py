"""The puck: repeatable, and brought to its goal by the expert alone."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sensorium.core import ConfigError
from sensorium.data.world import control
from sensorium.modalities.control import Episode


def arrives(policy: control.Policy, seed: int) -> bool:
    puck = control.Puck(seed)
    for _ in range(control.STEPS):
        puck.step(policy(puck.observation))
        if puck.arrived:
            return True
    return False


def test_the_expert_arrives_and_chance_does_not():
    drawn = np.random.default_rng(0)
    seeds = range(200)
    assert all(arrives(control.expert, seed) for seed in seeds)
    assert np.mean([arrives(lambda _: drawn.uniform(-1, 1, 2), seed) for seed in seeds]) < 0.05
    assert np.mean([arrives(lambda _: np.zeros(2), seed) for seed in seeds]) < 0.05


def test_a_step_is_that_of_the_equations():
    puck = control.Puck(3)
    place = puck.place.copy()
    puck.step(np.array([0.5, -7.0]))
    np.testing.assert_allclose(puck.velocity, [0.05, -0.1])
    np.testing.assert_allclose(puck.place, np.add(place, [0.05, -0.1]))
    for _ in range(100):
        puck.step(np.array([1.0, 1.0]))
    assert puck.place.tolist() == [1.0, 1.0]
    assert puck.velocity.tolist() == [0.0, 0.0]


def test_what_is_written_is_read(tmp_path):
    manifest = control.write_control(tmp_path / "c", 8, prompted=0.5)
    records = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [len(record["episode"]) for record in records] == [1, 2, 2, 1, 1, 1, 1, 1]
    episode = Episode()
    expected = control.episode(4)
    found = episode.load_value(tmp_path / "c" / records[4]["episode"][-1])
    np.testing.assert_array_equal(found.actions, expected["actions"])
    np.testing.assert_array_equal(found.observations["offset"], expected["observations"]["offset"])
    again = control.write_control(tmp_path / "d", 8, prompted=0.5)
    assert again.read_text() == manifest.read_text()
    with pytest.raises(ConfigError, match="holds something already"):
        control.write_control(tmp_path / "c", 8)
    with pytest.raises(ConfigError, match=r"found 0, 0, 0\.25"):
        control.write_control(tmp_path / "e", 0)
