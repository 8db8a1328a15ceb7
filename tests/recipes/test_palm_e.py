"""PaLM-E: pictures and states among words, and a plan that follows from both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from recipes import composed

from sensorium.core import ConfigError, Sample, Segment, Spec
from sensorium.data.world.render import picture
from sensorium.modalities import Series
from sensorium.nn.encoders.vectors import Vectors
from sensorium.recipes.cohere import cohere
from sensorium.recipes.palm_e import IMAGE, STATE, of_parts, palm_e

PLACES = 65  # of a picture of 64 pixels in patches of 8, with the class token
PLANS = {(-1, -1): "go left, then down", (-1, 1): "go left, then up", (1, -1): "go right, then down",
         (1, 1): "go right, then up"}  # fmt: skip


def planned(index: int, spec: Spec) -> Sample:
    """A picture, states of which the last says where the goal is, and the way there."""
    drawn = np.random.default_rng(index)
    way = drawn.choice([-1, 1], 2)
    states = drawn.normal(size=(1 + index % 3, 4))
    states[-1, 2:] = way * drawn.uniform(0.5, 1.5, 2)
    return Sample(
        f"s{index}",
        (
            Segment("image", picture(composed.scenes(index + 1)[index])),
            Segment("series", states.astype(np.float32)),
            Segment("text", "how do you get there?", role="user", turn=1),
            Segment("text", PLANS[tuple(way.tolist())], role="assistant", target=True, turn=1),
        ),
    )


@pytest.fixture(scope="module")
def material():
    spec = palm_e("tiny").set("modalities.series.channels", 4)
    return composed.made(spec, [planned(index, spec) for index in range(6)])


def test_parts_have_the_sizes_of_their_pages():
    with torch.device("meta"):
        whole = palm_e("12b").model.build()
        decoder = cohere("palm-8b").model.decoder.build()
    assert {k: v.shape for k, v in whole.decoder.state_dict().items()} == {
        k: v.shape for k, v in decoder.state_dict().items()
    }
    assert whole.towers["image"].trunk.depth == 56
    with pytest.raises(ConfigError, match="palm_e has no size 'huge'"):
        palm_e("huge")


def test_a_state_has_the_numbers_that_the_data_has(material):
    assert material.spec.model.towers["series"].channels == 4
    assert material.network.towers["series"].project.in_features == 4


@pytest.mark.parametrize("rows", [1, 3])
def test_states_become_one_token_or_several(material, rows: int):
    seeing = palm_e("tiny")
    spec = of_parts(
        cohere("tiny"),
        seeing.model.towers["image"],
        seeing.modalities["image"],
        Spec(Series, channels=4),
        width=16,
        rows=rows,
    )
    found = composed.made(spec, material.samples[:3])
    assert composed.rows(found)["series"].lengths.tolist() == [rows * (1 + index) for index in range(3)]
    assert composed.rows(found)["image"].lengths.tolist() == [PLACES] * 3
    engine = found.modalities["text"]._words.opened.engine
    ids = found.batch(found.samples[2:3]).streams["text"].values[0].tolist()
    assert [ids.count(engine.id(token)) for token in (IMAGE, STATE)] == [PLACES, 3 * rows]


def test_it_learns_and_answers(material, tmp_path):
    composed.check(material, falls=0.8)
    model = composed.saved(material, tmp_path)
    first = material.samples[0]
    asked = [
        {
            "role": "user",
            "content": [
                {"type": "image", "image": first.segments[0].value},
                {"type": "series", "series": first.segments[1].value},
                {"type": "text", "text": "how do you get there?"},
            ],
        }
    ]
    assert model.chat(asked, max_new_tokens=4) == material.model().chat(asked, max_new_tokens=4)


def test_a_plan_hangs_on_the_state(material):
    """Another state makes the same plan more or less likely; a state may be absent."""
    model, first = material.model(), material.samples[0]
    image, states, *words = first.segments
    turned = replace(first, segments=(image, replace(states, value=-states.value), *words))
    assert not torch.allclose(model.score(first), model.score(turned))
    assert len(model.score(replace(first, segments=(image, *words)))) == len(model.score(first))


def test_parts_must_fit():
    seeing = palm_e("tiny")
    with pytest.raises(ConfigError, match="tower of patches, found a Vectors"):
        of_parts(
            cohere("tiny"),
            Spec(Vectors, channels=1, width=2),
            seeing.modalities["image"],
            Spec(Series),
            width=8,
        )
