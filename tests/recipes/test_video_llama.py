"""Video-LLaMA: a branch that sees and one that hears, before one language model."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from recipes import composed
from torch import nn

from sensorium.core import ConfigError
from sensorium.recipes.llama import llama
from sensorium.recipes.video_llama import CLIP, SOUND, video_llama
from sensorium.start import resolve


@pytest.fixture(scope="module")
def material():
    samples = [
        composed.told(index, scene, "video", "audio") for index, scene in enumerate(composed.scenes(3))
    ]
    return composed.made(video_llama("tiny"), samples)


def test_parts_have_the_sizes_of_the_paper():
    with torch.device("meta"):
        whole = video_llama("7b").model.build()
        decoder = llama("7b").model.decoder.build()
    assert {k: v.shape for k, v in whole.decoder.state_dict().items()} == {
        k: v.shape for k, v in decoder.state_dict().items()
    }
    eye, (each, over) = whole.towers["video"].tower, whole.connectors["video"].connectors
    assert (eye.trunk.depth, eye.width, each.tokens) == (39, 1408, 257)
    assert (len(each.connector.qformer.blocks), over.tokens, over.place.weight.shape) == (12, 32, (32, 768))
    assert len(over.connector.qformer.blocks) == len(whole.connectors["audio"].connector.qformer.blocks) == 2
    with pytest.raises(ConfigError, match="video_llama has no size 'huge'"):
        video_llama("huge")


def test_both_are_rows_among_words(material):
    found = composed.rows(material)
    assert found["video"].lengths.tolist() == [CLIP] * 3
    assert found["audio"].lengths.tolist() == [SOUND] * 3


def test_a_frame_is_queried_by_itself_and_then_all_in_their_order(material):
    stream, network = material.batch(material.samples[:1]).streams["video"], material.network
    features = network.read("video", stream)
    each, over = network.connectors["video"].connectors
    frames = each(features)
    tokens = features.rows.view(4, 17, -1)
    alone = each(replace(features, rows=tokens[2], lengths=torch.tensor([17])))
    torch.testing.assert_close(frames.rows.view(4, 32, -1)[2], alone.rows)
    turned = replace(features, rows=tokens.flip(0).flatten(0, 1))
    nn.init.normal_(over.place.weight)
    assert not torch.allclose(network.connectors["video"](turned).rows, over_of(network, features))


def over_of(network, features):
    return network.connectors["video"](features).rows


def test_it_learns_and_answers(material, tmp_path):
    composed.check(material)
    model = composed.saved(material, tmp_path)
    video, audio = (segment.value for segment in material.samples[0].segments[:2])
    for media in ({"video": video, "audio": audio}, {"video": video}, {"audio": audio}, {}):
        found = model.generate("what?", max_new_tokens=3, **media)
        assert found == material.model().generate("what?", max_new_tokens=3, **media)


def test_the_published_stage(material):
    """With the rules that the page names, what is between the parts learns alone."""
    spec = resolve("video_llama:tiny", lock=["^(towers|decoder)"]).spec
    network = composed.made(spec, material.samples).network
    learning = {
        ".".join(name.split(".")[:2]) for name, value in network.named_parameters() if value.requires_grad
    }
    assert learning == {"connectors.video", "connectors.audio"}
