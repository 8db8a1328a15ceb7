"""BriVL: its parts are those of pages that are compared with others; the whole trains, and is used without its copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

import sensorium as sm
from sensorium.core import CapabilityError, ConfigError
from sensorium.data.world import write_world
from sensorium.recipes.brivl import SIZES, brivl
from sensorium.recipes.efficientnet import efficientnet
from sensorium.recipes.roberta import roberta
from sensorium.run import Plan, train


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("brivl")
    world = place / "w"
    write_world(
        world, 24, test_samples=12, compositional_samples=0, validation_samples=4, clips=0.0, workers=1
    )
    plan = Plan(
        "brivl:tiny",
        [str(world / "train.jsonl")],
        place / "run",
        ("loading.batch=8", "model.size=20"),
        {"steps": 3},
    )
    assert train(plan, console=Console(quiet=True)).finished
    return place / "run"


def test_it_trains_and_is_used_as_two_towers(trained, tmp_path):
    model = sm.load(trained)
    network = model.network
    assert network.filled.tolist() == [20, 20]
    assert not torch.equal(network.queue_image[0], network.queue_image[-1])
    assert float(network.scale.detach()) == pytest.approx(1 / 0.07), "the temperature is fixed"
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    found = model.classify(["red", "green"], image=[picture])
    assert found.shape == (1, 2)
    assert [len(rows) for rows in model.features(image=[picture])] == [5]
    model.save_pretrained(tmp_path)
    again = sm.load(tmp_path)
    assert torch.equal(again.embed(image=[picture]), model.embed(image=[picture]))
    with pytest.raises(CapabilityError, match="no transformers layout"):
        model.save_pretrained(tmp_path, layout="transformers")


@pytest.mark.parametrize("size", SIZES)
def test_sizes(size: str):
    """The towers of the two pages, and what BriVL puts on top of them."""
    eye, reader, grids, depth, embedding, *_ = SIZES[size]
    spec = brivl(size)
    with torch.device("meta"):
        towers = spec.model.network.build().towers
        whole = spec.model.build()
        parts = {
            "image": efficientnet(eye).model.tower.build(),
            "text": roberta(reader).model.tower.build(),
        }
    inner = {"image": towers["image"].tower.tower, "text": towers["text"].tower}
    for name, part in parts.items():
        shapes = {key: value.shape for key, value in part.state_dict().items()}
        assert {key: value.shape for key, value in inner[name].state_dict().items()} == shapes
        assert len(towers[name].trunk.blocks) == depth
        assert whole.get_buffer(f"queue_{name}").shape[1] == embedding
    assert towers["image"].tower.grids == grids
    with pytest.raises(ConfigError, match="brivl has no size"):
        brivl("huge")
