"""Zero-shot classification by modality."""

from __future__ import annotations

import pytest
import torch

from sensorium.core import CapabilityError, CheckpointError, ConfigError, Sample, Segment
from sensorium.evaluation import Classify
from sensorium.evaluation.gallery import Confusion, Mistake


def _shapes(modalities=("image",), words=("circle", "square", "circle", "triangle")) -> list[Sample]:
    return [
        Sample(f"k{i}", tuple(Segment(name, word) for name in modalities), labels={"label": word})
        for i, word in enumerate(words)
    ]


def test_accuracy_by_modality_against_chance(kit) -> None:
    (result,) = Classify().run(kit.predictor(), _shapes(["image", "audio"]))
    assert list(result.metrics) == ["image accuracy", "audio accuracy"]
    assert result.metrics["image accuracy"].value == 1
    assert result.metrics["image accuracy"].chance == pytest.approx(1 / 3)
    assert result.records[0]["expected"] == "circle"
    assert result.records[0]["found"]["audio"]["label"] == "circle"


def test_templates_are_measured_beside_the_bare_label(kit) -> None:
    predictor = kit.predictor()
    (result,) = Classify(templates=["a {}", "{}"]).run(predictor, _shapes())
    assert list(result.metrics) == ["image accuracy", "image accuracy, 2 templates"]
    asked = [what for ability, what in predictor.calls if ability == "classify"]
    assert asked == [("image", ("{}",)), ("image", ("a {}", "{}"))]


def test_template_without_a_place_for_the_label() -> None:
    with pytest.raises(ConfigError, match=r"'a photo' has no \{\}"):
        Classify(templates=["a photo"])


def test_confusion_and_confident_mistakes(kit) -> None:
    samples = [*_shapes(), Sample("odd", (Segment("image", "circle"),), labels={"label": "square"})]
    (result,) = Classify().run(kit.predictor(), samples)
    confusion, mistake = result.gallery
    assert isinstance(confusion, Confusion)
    assert confusion.labels == ("circle", "square", "triangle")
    assert confusion.counts == ((2, 0, 0), (1, 1, 0), (0, 0, 1))
    assert confusion.recall == (1, 0.5, 1)
    assert isinstance(mistake, Mistake)
    assert (mistake.key, mistake.expected, mistake.found) == ("odd", "square", "circle")
    assert mistake.confidence > 0.5


def test_given_labels_choose_the_samples(kit) -> None:
    (result,) = Classify(labels=["circle", "square"]).run(kit.predictor(), _shapes())
    assert result.metrics["image accuracy"].n == 3
    assert result.metrics["image accuracy"].chance == 0.5


def test_labels_may_be_numbers(kit) -> None:
    samples = [Sample(f"k{i}", (Segment("image", str(i % 2)),), labels={"label": i % 2}) for i in range(4)]
    (result,) = Classify().run(kit.predictor(), samples)
    assert result.metrics["image accuracy"].value == 1


def test_reasons_why_not(kit) -> None:
    task = Classify()
    assert task.applies(_shapes(), ["text", "image"]) is None
    assert "no text" in task.applies(_shapes(), ["image"])
    assert "no sample has a label" in task.applies(kit.world(3), ["text", "image"])
    assert "same label" in task.applies(_shapes(words=["circle"] * 3), ["text", "image"])
    assert "modality" in task.applies(_shapes(), ["text", "audio"])
    assert "of those asked for" in Classify(labels=["cat", "dog"]).applies(_shapes(), ["text", "image"])


def test_score_withholds_and_keeps_the_classes(kit) -> None:
    samples = [
        *_shapes(["image", "audio"]),
        Sample("quiet", (Segment("image", "star"),), labels={"label": "star"}),
    ]
    predictor = kit.predictor()
    assert set(Classify().score(predictor, samples).values()) == {1.0}
    rest = Classify().score(predictor, samples, withheld=["image"])
    assert set(rest) == {(f"k{i}", 0) for i in range(4)}  # nothing is left of "quiet"
    assert Classify().score(predictor, samples, withheld=["audio"]).keys() == rest.keys()


def test_models_that_cannot(kit) -> None:
    with pytest.raises(CapabilityError, match="cannot classify"):
        Classify().run(kit.predictor(can=["embed"]), _shapes())

    class Broken(kit.predictor):
        def classify(self, labels, templates, **values) -> torch.Tensor:
            return super().classify(labels, templates, **values) * torch.nan

    with pytest.raises(CheckpointError, match="not finite"):
        Classify().run(Broken(), _shapes())
