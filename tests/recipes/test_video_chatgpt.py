"""Video-ChatGPT: frames and places as rows among words."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from recipes import composed

from sensorium.core import ConfigError, Spec
from sensorium.modalities import Text
from sensorium.recipes.clip import clip
from sensorium.recipes.llama import llama
from sensorium.recipes.video_chatgpt import BEGIN, END, ROW, SIZES, of_parts, video_chatgpt
from sensorium.start import resolve

FRAMES, PLACES = 4, 64


@pytest.fixture(scope="module")
def material():
    samples = [composed.told(index, scene, "video") for index, scene in enumerate(composed.scenes(4))]
    return composed.made(video_chatgpt("tiny"), samples)


def test_it_is_made_of_clip_and_llama():
    """The parts have the shapes of those pages, and their weights fit."""
    for size, (eye, reader, _) in SIZES.items():
        with torch.device("meta"):
            whole = video_chatgpt(size).model.build()
            tower = clip(eye).model.towers["image"].build()
            decoder = llama(reader).model.decoder.build()
        for mine, theirs in ((whole.towers["video"].tower.tower, tower), (whole.decoder, decoder)):
            assert {k: v.shape for k, v in mine.state_dict().items()} == {
                k: v.shape for k, v in theirs.state_dict().items()
            }
    assert whole.connectors["video"].tokens == 256
    with pytest.raises(ConfigError, match="video_chatgpt has no size 'tin'"):
        video_chatgpt("tin")


def test_rows_are_means_of_frames_and_of_places(material):
    """Written out from the features of each frame by itself; a short clip has fewer rows."""
    short = composed.told(9, composed.scenes(1)[0], "video")
    clip, rate = short.segments[0].value
    short = replace(short, segments=(replace(short.segments[0], value=(clip[:2], rate)), *short.segments[1:]))
    batch = material.batch([*material.samples, short])
    network, stream = material.network, batch.streams["video"]
    found = network.bridge("video", stream)
    assert found.lengths.tolist() == [FRAMES + PLACES] * 4 + [2 + PLACES]
    eye, connector = network.towers["video"].tower, network.connectors["video"]
    one = torch.full((FRAMES,), 64)
    frames = eye(stream.values[0], one).rows.view(FRAMES, PLACES, -1)
    expected = connector.projector.project(torch.cat([frames.mean(1), frames.mean(0)]))
    torch.testing.assert_close(found.rows[: FRAMES + PLACES], expected)


def test_words_hold_a_place_for_each_row(material):
    words = material.modalities["text"]
    vocabulary = words._words.opened.engine
    ids = material.batch(material.samples[:1]).streams["text"].values[0].tolist()
    begin, row, end = (vocabulary.id(token) for token in (BEGIN, ROW, END))
    first = ids.index(begin)
    assert ids[first : first + FRAMES + PLACES + 2] == [begin, *[row] * (FRAMES + PLACES), end]
    assert ids.count(row) == FRAMES + PLACES


def test_it_learns_and_answers(material, tmp_path):
    composed.check(material)
    model = composed.saved(material, tmp_path)
    value = material.samples[0].segments[0].value
    asked = [
        {"role": "user", "content": [{"type": "video", "video": value}, {"type": "text", "text": "what?"}]}
    ]
    assert model.chat(asked, max_new_tokens=4) == material.model().chat(asked, max_new_tokens=4)


def test_the_published_stage(material):
    """With the rules that the page names, the map between the parts learns alone."""
    spec = resolve("video_chatgpt:tiny", lock=["^(towers|decoder)"]).spec
    network = composed.made(spec, material.samples).network
    learning = {name for name, value in network.named_parameters() if value.requires_grad}
    assert learning == {f"connectors.video.projector.layers.0.{part}" for part in ("weight", "bias")}


def test_parts_of_ones_own():
    seeing = clip("tiny")
    tower, image = seeing.model.towers["image"], seeing.modalities["image"]
    assert of_parts(llama("tiny"), tower, image).modalities["video"].frames == 100
    with pytest.raises(ConfigError, match="must be a Conversation, found a Text"):
        of_parts(llama("tiny").set("modalities.text", Spec(Text)), tower, image)
