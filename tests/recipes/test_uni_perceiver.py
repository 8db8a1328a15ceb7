"""Uni-Perceiver: one encoder that learns to find what belongs together, among whatever modalities there are."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from rich.console import Console

import sensorium as sm
from sensorium.core import ConfigError
from sensorium.data.world import write_world
from sensorium.recipes.uni_perceiver import SIZES, uni_perceiver
from sensorium.run import Plan, train

SMALL = ("loading.batch=16", "model.trunk.depth=2")


def test_it_learns_to_find_and_to_name(tmp_path: Path):
    world, run = tmp_path / "w", tmp_path / "run"
    write_world(
        world, 64, test_samples=12, compositional_samples=0, validation_samples=4, clips=0.0, workers=1
    )
    plan = Plan("uni_perceiver:tiny", [str(world / "train.jsonl")], run, SMALL, {"steps": 40})
    assert train(plan, console=Console(quiet=True)).finished
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in log if "loss" in record]
    assert losses[0] == pytest.approx(math.log(16), abs=1.0)
    assert sum(losses[-5:]) / 5 < math.log(16) - 0.5
    model = sm.load(run)
    assert set(model.modalities) == {"image", "audio", "text"}, "the data has no more"
    assert set(model.network.encoders) == {"image", "audio", "text"}
    words = model.embed(text=["a red circle", "x"])
    assert torch.allclose(words.norm(dim=1), torch.ones(2))
    assert torch.allclose(model.embed(text=["x"]), words[1:], atol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str):
    width, depth, *_ = SIZES[size]
    with torch.device("meta"):
        network = uni_perceiver(size).model.build()
    assert len(network.trunk.blocks) == depth
    assert {encoder.width for encoder in network.encoders.values()} == {width}
    with pytest.raises(ConfigError, match="uni_perceiver has no size"):
        uni_perceiver("huge")
