"""Monkey: windows with changes of their own, one resampler for all tiles."""

from __future__ import annotations

import pytest
import torch
from recipes import composed
from torch import nn

from sensorium.core import ConfigError
from sensorium.recipes.llama import llama
from sensorium.recipes.monkey import BEGIN, END, IMAGE, SIZES, monkey
from sensorium.start import resolve

TILES, ROWS = 7, 8


@pytest.fixture(scope="module")
def material():
    samples = [composed.told(index, scene, "image") for index, scene in enumerate(composed.scenes(4))]
    return composed.made(monkey("tiny"), samples)


def test_parts_have_the_sizes_of_their_pages():
    for size, (reader, eye, (down, across), rows) in SIZES.items():
        with torch.device("meta"):
            whole = monkey(size).model.build()
            decoder = llama(reader).model.decoder.build()
        assert {k: v.shape for k, v in whole.decoder.state_dict().items()} == {
            k: v.shape for k, v in decoder.state_dict().items()
        }
        tower, connector = whole.towers["image"], whole.connectors["image"]
        assert len(tower.adapters) == 4 * eye["num_hidden_layers"]
        assert {len(adapter.up) for adapter in tower.adapters} == {down * across}
        assert connector.tokens == (eye["image_size"] // eye["patch_size"]) ** 2
        assert connector.connector.latents.shape == (rows, eye["hidden_size"])
    spec = monkey().modalities["image"].geometry[0]
    assert (spec.height, spec.width, spec.side) == (896, 1344, 448)
    with pytest.raises(ConfigError, match="monkey has no size 'small'"):
        monkey("small")


def test_a_picture_is_seven_tiles(material):
    stream = material.batch(material.samples[:1]).streams["image"]
    assert stream.values.shape == (1, TILES, 32, 32, 3)
    assert composed.rows(material)["image"].lengths.tolist() == [TILES * ROWS] * 4
    engine = material.modalities["text"]._words.opened.engine
    ids = material.batch(material.samples[:1]).streams["text"].values[0].tolist()
    begin, row, end = (engine.id(token) for token in (BEGIN, IMAGE, END))
    first = ids.index(begin)
    assert ids[first : first + TILES * ROWS + 2] == [begin, *[row] * (TILES * ROWS), end]


def test_an_adapter_changes_its_window_alone(material):
    """And the resampler sees each tile by itself."""
    stream, network = material.batch(material.samples[:1]).streams["image"], material.network
    before = network.bridge("image", stream).rows.view(TILES, ROWS, -1).detach()
    ups = [adapter.up for adapter in network.towers["image"].adapters]
    kept = [up.detach().clone() for up in ups]
    for up in ups:
        nn.init.normal_(up.data[2], std=0.1)
    after = network.bridge("image", stream).rows.view(TILES, ROWS, -1).detach()
    for up, old in zip(ups, kept, strict=True):
        up.data.copy_(old)
    changed = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert changed == [False, False, True, False, False, False, False]


def test_it_learns_and_answers(material, tmp_path):
    for adapter in material.network.towers["image"].adapters:  # at zero, what is before them learns nothing
        nn.init.normal_(adapter.up, std=0.02)
    composed.check(material)
    model = composed.saved(material, tmp_path)
    value = material.samples[0].segments[0].value
    assert model.generate("what?", image=value, max_new_tokens=4) == material.model().generate(
        "what?", image=value, max_new_tokens=4
    )


def test_the_changes_learn_with_the_eye_frozen(material):
    spec = resolve("monkey:tiny", lock=[r"^towers\.image\.tower", "^decoder"]).spec
    network = composed.made(spec, material.samples).network
    learning = {name.split(".")[2] for name, value in network.named_parameters() if value.requires_grad}
    assert learning == {"adapters", "connector"}
