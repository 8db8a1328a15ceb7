"""Retrieval over every pair of modalities."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from sensorium.core import CapabilityError, CheckpointError, Sample
from sensorium.evaluation import Retrieval
from sensorium.evaluation.gallery import Neighbours


def test_a_perfect_model_finds_everything_in_every_pair(kit) -> None:
    results = Retrieval().run(kit.predictor(), kit.world(12))
    assert [result.name for result in results] == ["audio-image", "audio-text", "image-text"]
    for result in results:
        source, target = result.name.split("-")
        assert next(iter(result.metrics)) == "R@1"
        for name in ("R@1", f"{source}->{target} R@1", f"{target}->{source} MRR"):
            assert result.metrics[name].value == 1
        assert result.metrics[f"{source}->{target} median rank"].value == 1
        assert result.metrics["R@5"].chance == pytest.approx(5 / 12)
        assert len(result.records) == 12


def test_each_modality_is_embedded_once(kit) -> None:
    predictor = kit.predictor()
    Retrieval().run(predictor, kit.world(12))
    assert sorted(what for _, what in predictor.calls) == ["audio", "image", "text"]


def test_samples_of_one_caption_are_right_for_each_other(kit) -> None:
    # 24 samples of 12 captions: told apart by nothing, so none is wrong
    (result,) = Retrieval().run(kit.predictor(), kit.world(24, modalities=["image"]))
    assert result.metrics["text->image R@1"].value == 1
    assert result.metrics["R@1"].chance == pytest.approx(2 / 24)


def test_samples_of_one_label_are_right_for_each_other(kit) -> None:
    samples = [
        replace(s, segments=tuple(p for p in s.segments if p.role == "content" and p.modality != "text"))
        for s in kit.world(12, label=True)
    ]
    (result,) = Retrieval().run(kit.predictor(skill=0.0), samples)
    assert result.metrics["R@1"].chance == pytest.approx(4 / 12)


def test_a_clueless_model_scores_about_chance(kit) -> None:
    samples = [kit.thing(f"k{i}", f"c{i} s{i}", modalities=["image"]) for i in range(300)]
    (result,) = Retrieval().run(kit.predictor(skill=0.0), samples)
    figure = result.metrics["R@10"]
    assert figure.low <= figure.chance <= figure.high


def test_missing_modalities_only_shrink_the_gallery(kit) -> None:
    samples = kit.world(8) + [kit.thing(f"x{i}", "red star", modalities=["audio"]) for i in range(3)]
    results = {result.name: result for result in Retrieval().run(kit.predictor(), samples)}
    assert results["image-text"].metrics["R@1"].n == 8
    assert results["audio-text"].metrics["R@1"].n == 11


def test_gallery_shows_even_and_worst_queries(kit) -> None:
    (result,) = Retrieval(shown=3, worst=2).run(kit.predictor(skill=0.4), kit.world(12, modalities=["image"]))
    ways = [(item.source, item.target) for item in result.gallery if isinstance(item, Neighbours)]
    assert set(ways) == {("image", "text"), ("text", "image")}
    worst = [item for item in result.gallery if item.worst]
    assert worst
    assert all(item.rank > 1 and item.among == 12 and len(item.found) == 5 for item in worst)
    assert sum(not item.worst for item in result.gallery) == 6


def test_reasons_why_not(kit) -> None:
    task = Retrieval()
    assert task.applies(kit.world(5), ["text", "image"]) is None
    assert "two content modalities" in task.applies(kit.world(5), ["text"])
    assert "two content modalities" in task.applies([], ["text", "image"])


def test_a_modality_that_cannot_be_embedded_is_left_out_with_a_reason(kit) -> None:
    class Deaf(kit.predictor):
        def embed(self, *, batch_size: int = 64, **values) -> torch.Tensor:
            if "audio" in values:
                raise CapabilityError("no head for audio")
            return super().embed(batch_size=batch_size, **values)

    (result,) = Retrieval().run(Deaf(), kit.world(6))
    assert result.name == "image-text"
    assert result.notes == ["audio was left out: no head for audio"]
    with pytest.raises(CapabilityError, match="cannot embed"):
        Retrieval().run(kit.predictor(can=[]), kit.world(6))


def test_damaged_weights_are_named(kit) -> None:
    class Broken(kit.predictor):
        def embed(self, *, batch_size: int = 64, **values) -> torch.Tensor:
            return super().embed(batch_size=batch_size, **values) * torch.nan

    with pytest.raises(CheckpointError, match="embeddings of image are not finite"):
        Retrieval().run(Broken(), kit.world(6, modalities=["image"]))


def test_limit(kit) -> None:
    samples: list[Sample] = kit.world(12)
    results = Retrieval(limit=7).run(kit.predictor(), samples)
    assert {result.metrics["R@1"].n for result in results} == {7}
