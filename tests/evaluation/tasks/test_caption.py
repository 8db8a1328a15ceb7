"""Captions from each modality and from all."""

from __future__ import annotations

from sensorium.core import Segment
from sensorium.evaluation import Caption
from sensorium.evaluation.gallery import Completion


def test_captions_from_each_modality_and_from_all_together(kit) -> None:
    (result,) = Caption().run(kit.predictor(), kit.world(6))
    assert [name for name in result.metrics if "exact" in name] == [
        "together exact match",
        "image exact match",
        "audio exact match",
    ]
    assert result.metrics["together exact match"].value == 1
    assert result.records[0] == {
        "key": "s000",
        "expected": "a red circle",
        "found": {name: {"text": "a red circle"} for name in ("together", "image", "audio")},
    }


def test_the_model_never_sees_the_caption_nor_the_questions(kit) -> None:
    predictor = kit.predictor()
    Caption().run(predictor, kit.world(6))
    for _, samples in predictor.calls:
        assert all(s.modality != "text" for sample in samples for s in sample.segments)
    first = [tuple(s.modality for s in samples[0].segments) for _, samples in predictor.calls]
    assert first == [("image", "audio"), ("image",), ("audio",)]


def test_one_modality_needs_no_together(kit) -> None:
    (result,) = Caption().run(kit.predictor(), kit.world(6, modalities=["audio"]))
    assert list(result.metrics) == ["audio exact match", "audio token F1"]


def test_attributes_are_judged_by_the_caller(kit) -> None:
    samples = [kit.thing("a", "red circle", caption="there is a red circle", modalities=["image"])]
    (result,) = Caption().run(kit.predictor(), samples, compare=kit.judge)
    assert list(result.metrics)[:3] == ["image all attributes", "image colour", "image shape"]
    assert result.metrics["image all attributes"].value == 1
    assert result.metrics["image exact match"].value == 0
    (item,) = result.gallery
    assert isinstance(item, Completion)
    assert item.right
    assert item.parts == {"colour": True, "shape": True}


def test_text_that_is_not_to_be_generated_is_an_input(kit) -> None:
    sample = kit.thing("a", "red circle", modalities=["image"])
    title = Segment("text", "a title")
    predictor = kit.predictor()
    sample = type(sample)("a", (title, *sample.segments))
    (result,) = Caption().run(predictor, [sample])
    assert "text exact match" in result.metrics
    assert predictor.calls[0][1][0].segments[0] == title


def test_reasons_why_not(kit) -> None:
    task = Caption()
    assert task.applies(kit.world(3), ["text", "image"]) is None
    assert "no text" in task.applies(kit.world(3), ["image"])
    assert "to be generated" in task.applies(kit.world(3, modalities=[]), ["text", "image"])


def test_score(kit) -> None:
    samples = [
        kit.thing("a", "red circle", caption="red circle here"),
        kit.thing("b", "red square", modalities=["image"]),
    ]
    assert Caption().score(kit.predictor(), samples) == {("a", 0): 0, ("b", 0): 1}
    assert Caption().score(kit.predictor(), samples, compare=kit.judge) == {("a", 0): 1, ("b", 0): 1}
    # without the picture, nothing is left of b
    assert Caption().score(kit.predictor(), samples, withheld=["image"]) == {("a", 0): 0}
