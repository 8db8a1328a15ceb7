"""Neighbours within one modality."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sensorium.core import CapabilityError, Sample
from sensorium.evaluation import Alike
from sensorium.evaluation.gallery import Neighbours
from sensorium.evaluation.tasks.alike import _others


def pictures(kit, count: int, **options) -> list[Sample]:
    """Samples of a picture alone."""
    return [
        replace(s, segments=tuple(p for p in s.segments if p.modality == "image"))
        for s in kit.world(count, **options)
    ]


def test_the_nearest_others_are_shown(kit) -> None:
    (result,) = Alike(shown=3).run(kit.predictor(modalities=["image"]), pictures(kit, 24))
    assert (result.name, result.metrics) == ("alike", {})
    assert len(result.gallery) == 3
    for item in result.gallery:
        assert isinstance(item, Neighbours)
        assert (item.source, item.target, item.rank) == ("image", "image", None)
        assert item.key not in [one.key for one in item.found]
        assert int(item.found[0].key[1:]) % 12 == int(item.key[1:]) % 12  # the other of the same thing
        assert item.found[0].score == pytest.approx(1.0)
        assert not any(one.right for one in item.found)
    assert len(result.records) == 24


def test_labels_make_a_figure(kit) -> None:
    (result,) = Alike().run(kit.predictor(modalities=["image"]), pictures(kit, 24, label=True))
    figure = result.metrics["image same label"]
    assert figure.value == 1
    assert figure.chance == pytest.approx(7 / 23)  # 8 of each of three shapes
    assert all(item.found[0].right for item in result.gallery)
    poor = Alike().run(kit.predictor(skill=0.0, modalities=["image"]), pictures(kit, 24, label=True))
    assert poor[0].metrics["image same label"].value < 0.8


def test_what_comes_in_pairs_is_left_to_retrieval(kit) -> None:
    assert Alike().applies(kit.world(6), ["text", "image"]) is None
    assert Alike().run(kit.predictor(), kit.world(6)) == []
    mixed = [*pictures(kit, 4), *kit.world(4, modalities=["audio"])]
    (result,) = Alike().run(kit.predictor(), mixed)
    assert {item.source for item in result.gallery} == {"image"}


def test_when_it_does_not_apply(kit) -> None:
    assert "fewer than 2 samples" in str(Alike().applies(pictures(kit, 1), ["image"]))
    with pytest.raises(CapabilityError, match="cannot embed"):
        Alike().run(kit.predictor(modalities=["image"], can=[]), pictures(kit, 3))


def test_nobody_is_its_own_neighbour() -> None:
    same = torch.ones(9, 2) / 2**0.5
    _, found = _others(same)
    assert found.shape == (9, 5)
    assert not bool((found == torch.arange(9)[:, None]).any())
    scores, found = _others(torch.eye(2))
    assert found.tolist() == [[1], [0]]
    assert scores.tolist() == [[0.0], [0.0]]
