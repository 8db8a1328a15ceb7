"""What becomes of a score without a modality."""

from __future__ import annotations

import pytest

from sensorium.core import CapabilityError
from sensorium.evaluation import Answer, Caption, Withheld


def test_drops_are_paired(kit) -> None:
    samples = kit.world(12)
    (result,) = Withheld([Answer()]).run(kit.predictor(), samples)
    assert list(result.metrics) == [
        f"answer {what}without {name}" for name in ("image", "audio", "any media") for what in ("", "drop ")
    ]
    # either sense is enough; with neither, only "red" is ever answered
    assert result.metrics["answer drop without image"].value == 0
    assert result.metrics["answer without any media"].value == pytest.approx(3 / 24)
    drop = result.metrics["answer drop without any media"]
    assert drop.value == pytest.approx(21 / 24)
    assert 0 < drop.low < drop.high
    blind = result.gallery[-1]
    assert (blind.withheld, blind.complete.value) == ("any media", 1)


def test_only_samples_that_had_the_modality_count(kit) -> None:
    samples = [*kit.world(6), kit.thing("x", "red star", modalities=["image"])]
    (result,) = Withheld([Caption()]).run(kit.predictor(), samples)
    assert result.metrics["caption without audio"].n == 6
    assert result.metrics["caption without image"].n == 6  # nothing is left of x
    assert "caption without any media" not in result.metrics


def test_one_task_that_cannot_does_not_stop_the_others(kit) -> None:
    samples = kit.world(6, label=True)
    (result,) = Withheld().run(kit.predictor(can=["embed", "classify"]), samples)
    assert {name.split()[0] for name in result.metrics} == {"classify"}
    assert result.notes[0].startswith("caption was left out: this model cannot complete")
    with pytest.raises(CapabilityError):
        Withheld().run(kit.predictor(can=[]), samples)


def test_reasons_why_not(kit) -> None:
    assert Withheld().applies(kit.world(3), ["text", "image"]) is None
    reason = Withheld().applies(kit.world(3), ["image"])
    assert reason.count("no text") == 3
