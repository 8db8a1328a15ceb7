"""Acting: what was learnt from demonstrations is done, step by step, in rounds that were never shown."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from rich.console import Console

import sensorium as sm
from sensorium.acting import History, act
from sensorium.core import CapabilityError, ConfigError, DataError, Sample, Segment
from sensorium.data.world import control
from sensorium.modalities.control import Actions
from sensorium.model import Model
from sensorium.recipes.gato import gato
from sensorium.recipes.llama import llama
from sensorium.run import Plan, train
from sensorium.testing.material import ready

ROUNDS = range(1_000_000, 1_000_100)
FORCE = Actions(width=2)


def arrivals(model: Model) -> float:
    """The share of new rounds in which the puck comes to rest at its goal."""
    pucks = [control.Puck(seed) for seed in ROUNDS]
    histories = [History(horizon=control.STEPS) for _ in pucks]
    arrived = np.zeros(len(pucks), bool)
    for _ in range(control.STEPS):
        asked = [history.seen(puck.observation) for history, puck in zip(histories, pucks, strict=True)]
        for row, force in enumerate(act(model, asked, FORCE)):
            histories[row].did(force)
            pucks[row].step(force)
            arrived[row] |= pucks[row].arrived
    return float(arrived.mean())


def fresh() -> Model:
    torch.manual_seed(0)
    spec = gato("tiny")
    system = spec.build()
    modalities = {name: part.build() for name, part in system.modalities.items()}
    return Model(system.model.build().eval(), modalities, spec)


@pytest.mark.slow
def test_it_learns_to_bring_the_puck_to_its_goal(tmp_path):
    """From files of demonstrations, by the usual run, in less than a minute of one core: in about 9 of 10 rounds.
    Chance and a fresh model do in about 1 of 100.
    """
    manifest = control.write_control(tmp_path / "puck", 3_000)
    plan = Plan("gato:tiny", [str(manifest)], tmp_path / "run", duration={"steps": 700})
    assert train(plan, console=Console(quiet=True)).finished
    assert arrivals(fresh()) < 0.1
    assert arrivals(sm.load(tmp_path / "run")) > 0.75


def test_a_history_is_a_window():
    history = History(horizon=3, text="go")
    for step in range(5):
        sample = history.seen({"at": np.float32([step]), "key": np.array([step])})
        episode = sample.segments[-1].value
        assert episode["observations"]["at"][:, 0].tolist() == list(range(max(0, step - 2), step + 1))
        assert episode["actions"] == [-one for one in range(max(0, step - 2), step)]
        assert episode["text"] == "go"
        history.did(-step)
    with pytest.raises(ConfigError, match="horizon must be at least 1"):
        History(horizon=0)


def test_pictures_and_a_prompt_stand_before():
    prompt = [Segment("episode", {"text": "like this"})]
    history = History(horizon=2, pictures=["video"], prompt=prompt)
    history.seen({"video": np.zeros((4, 4, 3), np.uint8), "key": np.array([1])})
    history.did(0)
    sample = history.seen({"video": np.ones((4, 4, 3), np.uint8), "key": np.array([2])})
    assert [segment.modality for segment in sample.segments] == ["episode", "video", "episode"]
    assert sample.segments[1].value.shape == (2, 4, 4, 3)
    assert set(sample.segments[2].value["observations"]) == {"key"}


def test_one_by_one_and_side_by_side_are_the_same():
    """Histories of several lengths in one batch, with actions among choices and of numbers."""
    model = fresh()
    samples = []
    for steps in (1, 4, 2):
        shown = control.episode(steps)
        seen = {name: values[:steps] for name, values in shown["observations"].items()}
        samples.append(
            Sample(
                f"s{steps}",
                (Segment("episode", {"observations": seen, "actions": shown["actions"][: steps - 1]}),),
            )
        )
    for actions in (FORCE, Actions(width=3, choices=5)):
        together = act(model, samples, actions)
        for sample, found in zip(samples, together, strict=True):
            np.testing.assert_array_equal(act(model, [sample], actions)[0], found)
            assert found.shape == (actions.width,)
            assert actions.choices is None or (found.max() < 5 and found.dtype == np.int64)


def test_what_cannot_act():
    model = fresh()
    whole = Sample("s", (Segment("episode", control.episode(0)),))
    with pytest.raises(DataError, match="key 's', field 'actions': an action is wanted"):
        act(model, [whole], FORCE)
    assert act(model, [], FORCE) == []
    talks = ready(
        llama("tiny"), [Sample(f"t{i}", (Segment("text", "a b", target=True),)) for i in range(2)]
    ).model()
    with pytest.raises(CapabilityError, match="does not act"):
        act(talks, [whole], FORCE)
