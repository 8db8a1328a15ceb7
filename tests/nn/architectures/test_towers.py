"""Towers beside one another, and alone: batches of any segments, missing modalities, what is contrasted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from nn.toys import MODALITIES, VOCABULARY
from torch import Tensor
from torch.nn.functional import normalize

from sensorium.core import Batch, CapabilityError, ConfigError, Sample, Segment
from sensorium.data.collate import collate
from sensorium.data.item import prepare
from sensorium.nn.architectures.network import unit
from sensorium.nn.architectures.single import Single
from sensorium.nn.architectures.towers import Towers
from sensorium.nn.encoders.patch_tower import PatchEmbedding, PatchTower
from sensorium.nn.encoders.token_tower import TokenEmbedding, TokenTower
from sensorium.nn.heads.classes import ClassHead
from sensorium.nn.heads.pooling import FirstToken, LastToken, Pool
from sensorium.nn.heads.projection import LinearProjection
from sensorium.nn.heads.similarity import Similarity, Temperature
from sensorium.nn.layers.blocks import block
from sensorium.nn.layers.tables import PositionTable
from sensorium.nn.layers.transformer import Transformer

WIDTHS = {"picture": 12, "words": 10}
CLOSE = {"atol": 1e-10, "rtol": 0.0}


def trunk(name: str) -> Transformer:
    width = WIDTHS[name]
    return Transformer(width=width, depth=2, block=block(width=width, heads=2, hidden=16))


def tower(name: str) -> Any:
    width = WIDTHS[name]
    if name == "words":
        return TokenTower(
            embedding=TokenEmbedding(vocabulary=VOCABULARY, width=width, length=16),
            trunk=trunk(name),
            pool=Pool(width=width, select=LastToken()),
            causal=True,
        )
    positions = PositionTable(grid=[2, 2], width=width, prefix=1)
    return PatchTower(
        embedding=PatchEmbedding(patch=[4, 4], channels=3, width=width, positions=positions),
        trunk=trunk(name),
        pool=Pool(width=width, select=FirstToken()),
    )


def towers(**changes: Any) -> Towers:
    torch.manual_seed(0)
    given = {
        "towers": {name: tower(name) for name in WIDTHS},
        "projections": {name: LinearProjection(width=width, embedding=6) for name, width in WIDTHS.items()},
        "similarity": Similarity(bias=-3.0),
        "language": "words",
    }
    return Towers(**(given | changes)).double().eval()


def single(name: str = "picture", **changes: Any) -> Single:
    torch.manual_seed(0)
    return Single(name=name, tower=tower(name), **changes).double().eval()


def picture(seed: int) -> Segment:
    drawn = torch.Generator().manual_seed(seed)
    return Segment("picture", torch.randn(8, 8, 3, generator=drawn, dtype=torch.float64))


def words(seed: int, role: str = "content") -> Segment:
    drawn = torch.Generator().manual_seed(100 + seed)
    ids = torch.randint(4, VOCABULARY, (2 + seed % 4,), generator=drawn)
    return Segment("words", torch.cat([torch.tensor([1]), ids, torch.tensor([2])]), role=role)


SAMPLES = [
    Sample("a", (picture(0), words(0))),
    Sample("b", (words(1),)),
    Sample("c", (picture(2), words(2), words(3, role="user"))),
    Sample("d", (picture(4),)),
    Sample("e", (words(5), words(6))),
]


def batch(samples: Sequence[Sample]) -> Batch:
    return collate([prepare(sample, MODALITIES) for sample in samples], MODALITIES)


@torch.no_grad()
def test_batched_is_single():
    net = towers()
    whole = net(batch(SAMPLES)).embeddings
    for index, sample in enumerate(SAMPLES):
        for name, alone in net(batch([sample])).embeddings.items():
            torch.testing.assert_close(
                alone.vectors, whole[name].vectors[whole[name].owner == index], **CLOSE
            )
    assert whole["picture"].owner.tolist() == [0, 2, 3]


@torch.no_grad()
def test_embeddings_are_projected_pooled_vectors_at_length_one():
    net, given = towers(), batch(SAMPLES)
    found = net(given)
    for name in WIDTHS:
        stream = given.streams[name].select(given.streams[name].content)
        pooled = net.towers[name](stream.values, stream.lengths).pooled
        expected = normalize(net.projections[name](pooled), dim=-1)
        torch.testing.assert_close(found.embeddings[name].vectors, expected, **CLOSE)
    assert float(found.scale) == pytest.approx(1 / 0.07)
    assert float(found.bias) == -3.0
    assert float(net.scale) == float(found.scale)


@torch.no_grad()
@pytest.mark.parametrize("net", [towers(), single("words")], ids=["towers", "single"])
def test_only_content_is_contrasted(net: Any):
    """A question about a thing does not describe it; asked for by itself, it has a vector all the same."""
    given = batch(SAMPLES)
    assert len(given.streams["words"]) == 6
    assert net(given).embeddings["words"].owner.tolist() == [0, 1, 2, 4, 4]
    assert net.embed("words", given.streams["words"]).shape[0] == 6


@pytest.mark.parametrize("only", ["picture", "words"])
def test_a_missing_modality_is_a_stream_of_no_rows(only: str):
    """Through which every parameter gets a gradient all the same, so that ranks agree."""
    net = towers()
    samples = [sample for sample in SAMPLES if all(part.modality == only for part in sample.segments)]
    found = net(batch(samples))
    other = next(name for name in WIDTHS if name != only)
    assert found.embeddings[other].vectors.shape == (0, 6)
    assert len(found.embeddings[only].vectors) > 0
    total = sum(one.vectors.square().sum() for one in found.embeddings.values())
    (total * found.scale + found.bias).backward()
    assert not [name for name, parameter in net.named_parameters() if parameter.grad is None]


@torch.no_grad()
def test_features_and_pooled_vectors_of_a_tower():
    net, given = single(), batch(SAMPLES)
    stream = given.streams["picture"]
    found = net.read("picture", stream)
    assert [len(features) for features in found.segments()] == [5, 5, 5]
    torch.testing.assert_close(net.embed("picture", stream), normalize(found.pooled, dim=-1), **CLOSE)
    assert list(net(given).embeddings) == ["picture"]
    assert net.scale is None


@torch.no_grad()
def test_classes_of_ones_own():
    net, stream = (
        single(head=ClassHead(width=12, classes=3), labels=["x", "y", "z"]),
        batch(SAMPLES).streams["picture"],
    )
    expected = net.head.project(net.towers["picture"](stream.values, stream.lengths).pooled)
    torch.testing.assert_close(net.classify("picture", stream), expected, **CLOSE)
    assert net.labels == ["x", "y", "z"]
    with pytest.raises(CapabilityError, match="no head of classes of its own: give labels"):
        single().classify("picture", stream)


def test_a_tower_that_is_not_there():
    with pytest.raises(CapabilityError, match="no tower that reads wave, only picture, words"):
        towers().read("wave", batch(SAMPLES).streams["wave"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"language": "text"}, r"language names 'text', which is none of the towers \['picture', 'words'\]"),
        ({"projections": {"words": LinearProjection(width=10, embedding=6)}}, "picture has only one of both"),
        ({"towers": {"words": tower("words")}}, "each tower needs one projection: picture"),
    ],
)
def test_what_does_not_fit(changes: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        towers(**changes)


def test_the_language_of_a_single_tower_is_its_own():
    assert single("words", language="words").language == "words"
    with pytest.raises(ConfigError, match="language names 'words', but the only tower is 'picture'"):
        single(language="words")


def test_another_similarity():
    assert float(towers(similarity=Temperature(temperature=0.5)).scale.detach()) == 2.0


@pytest.mark.parametrize(
    ("given", "kept"),
    [(torch.bfloat16, torch.float32), (torch.float32, torch.float32), (torch.float64, torch.float64)],
)
def test_length_one_is_in_single_precision_at_least(given: torch.dtype, kept: torch.dtype):
    vectors: Tensor = torch.randn(4, 7, generator=torch.Generator().manual_seed(0)).to(given)
    found = unit(vectors)
    assert found.dtype == kept
    torch.testing.assert_close(found.norm(dim=1), torch.ones(4, dtype=kept))
    assert unit(torch.zeros(1, 3)).tolist() == [[0.0] * 3]
