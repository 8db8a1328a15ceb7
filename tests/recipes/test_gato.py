"""Gato: one stream of pictures, numbers and texts; what is done is learnt, and a prompt says what to do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from recipes import composed

from sensorium.acting import History, act
from sensorium.core import ConfigError, Sample, Segment
from sensorium.modalities.control import Actions
from sensorium.nn.decoders.local_words import LocalWords
from sensorium.recipes.gato import gato

PATCHES = 16  # of a picture of 32 pixels in patches of 8
LENGTH = 9  # of the corridor


def watched(index: int) -> Sample:
    """A moving scene with a caption, and something that follows from each picture."""
    scene = composed.scenes(index + 1)[index]
    frames = composed.shown(scene, "video")[0][:3]
    drawn = np.random.default_rng(index)
    episode = {
        "observations": {"speed": drawn.normal(size=(3, 2)), "keys": [1, 2, index]},
        "actions": drawn.uniform(-1, 1, (3, 2)),
        "text": f"thing number {index}",
    }
    return Sample(f"s{index}", (Segment("video", (frames, 8.0)), Segment("episode", episode)))


@pytest.fixture(scope="module")
def material():
    return composed.made(gato("tiny"), [watched(index) for index in range(4)])


def test_sizes():
    """Those of the paper, in parameters of the trunk alone: its words are not ours."""
    for size, expected in (("79m", 57e6), ("364m", 340e6), ("1.2b", 1209e6)):
        with torch.device("meta"):
            found = gato(size).model.build().decoder.trunk
        assert sum(value.numel() for value in found.parameters()) == pytest.approx(expected, rel=0.01)
    with pytest.raises(ConfigError, match="gato has no size 'small'"):
        gato("small")


def test_it_reads_pictures_and_learns(material, tmp_path):
    found = composed.rows(material)["video"]
    assert found.lengths.tolist() == [3 * PATCHES] * 4
    composed.check(material, falls=0.8)
    composed.saved(material, tmp_path)


def test_only_texts_and_actions_are_learnt(material):
    batch = material.batch(material.samples)
    found, stream = material.network(batch).language, batch.streams["episode"]
    letters = material.modalities["episode"].alphabet
    assert isinstance(material.network.decoder.embedding, LocalWords)
    assert len(found.target) == int(stream.learnt[:, 1:].sum())
    assert bool((found.target < letters.separator).all())
    per_sample = torch.bincount(found.owner).tolist()
    texts = [len(material.modalities["episode"]._spoken(f"thing number {index}")) for index in range(4)]
    assert per_sample == [words + 3 * 2 for words in texts], "the end of a text, but not its first token"


def test_pictures_and_what_came_before_change_what_is_done(material):
    model = material.model()
    video, episode = material.samples[0].segments
    opened = episode.value | {"actions": episode.value["actions"][:2]}
    sample = replace(material.samples[0], segments=(video, replace(episode, value=opened)))
    dark = replace(video, value=(np.zeros_like(video.value[0]), 8.0))
    batches = [
        material.batch([replace(material.samples[0], segments=(seen, episode))]) for seen in (video, dark)
    ]
    with torch.no_grad():
        lit, unlit = (material.network(batch).language.logits for batch in batches)
    assert not torch.allclose(lit, unlit)
    (alone,) = act(model, [sample], Actions(width=2))
    both = act(model, [sample, watched_open(1)], Actions(width=2))
    np.testing.assert_array_equal(both[0], alone)
    assert alone.dtype == np.float32
    assert (np.abs(alone) < 1).all()


def watched_open(index: int) -> Sample:
    video, episode = watched(index).segments
    return Sample(
        "o", (video, replace(episode, value=episode.value | {"actions": episode.value["actions"][:2]}))
    )


def test_captions_are_texts_after_pictures(material):
    model = material.model()
    video = material.samples[0].segments[0].value
    assert model.writes
    assert model.generate(video=video, max_new_tokens=5) == model.generate(video=video, max_new_tokens=5)
    assert isinstance(model.generate("what is it?", video=video, max_new_tokens=5), str)


def walk(start: int, way: int) -> dict:
    """Through a corridor to one of its ends: which one is not seen."""
    end = LENGTH - 1 if way else 0
    path = range(start, end, 1 if way else -1)
    return {"observations": [*path, end], "actions": [way] * len(path) + [2]}


def test_a_demonstration_says_where_to_go():
    """In a corridor, the way and the rest at its end are those of the prompt, from places that it did not show."""
    drawn = np.random.default_rng(0)

    def lesson(index: int) -> Sample:
        way = index % 2
        shown, own = drawn.integers(1, LENGTH - 1, 2)
        return Sample(
            f"w{index}",
            (Segment("episode", walk(int(shown), way)), Segment("episode", walk(int(own), way))),
        )

    torch.manual_seed(0)
    material = composed.made(gato("tiny"), [lesson(index) for index in range(2)])
    optimizer = material.training.optimizer.make(material.network.named_parameters(), material.training.rules)
    material.network.train()
    for step in range(60):
        composed.loss(material, [material.batch([lesson(index) for index in range(step, step + 16)])])
        optimizer.step()
    model = material.model()
    starts = [(start, way) for start in range(1, LENGTH - 1) for way in (0, 1)]
    histories = [
        History(horizon=LENGTH, prompt=[Segment("episode", walk(LENGTH - 1 - start, way))])
        for start, way in starts
    ]
    places = [start for start, _ in starts]
    for _ in range(LENGTH):
        asked = [
            history.seen({"observation": np.array([place])})
            for history, place in zip(histories, places, strict=True)
        ]
        found = act(model, asked, Actions(choices=3))
        for row, (history, action) in enumerate(zip(histories, found, strict=True)):
            history.did(action)
            places[row] += {0: -1, 1: 1, 2: 0}[int(action[0])]
            places[row] = min(max(places[row], 0), LENGTH - 1)
    ends = [place == (LENGTH - 1 if way else 0) for place, (_, way) in zip(places, starts, strict=True)]
    assert np.mean(ends) >= 0.9
