"""Restoring what was hidden."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sensorium.core import CapabilityError
from sensorium.core.outputs import Reconstruction
from sensorium.evaluation import Reconstruct
from sensorium.evaluation.gallery import Restored


def test_pictures_are_shown_whole_hidden_and_restored(kit) -> None:
    predictor = kit.predictor(skill=0.6)
    (result,) = Reconstruct(shown=2).run(predictor, kit.world(9))
    assert result.metrics["image restored"].value == pytest.approx(0.6)
    assert [record["modality"] for record in result.records] == ["image"] * 9
    assert len(result.gallery) == 2
    for item in result.gallery:
        assert isinstance(item, Restored)
        places = item.places()
        assert [name for _, name in places] == ["image whole", "image hidden", "image restored"]
        whole, hidden, restored = (result.fragments[place] for place in places)
        assert whole == restored
        assert 'alt="grey square"' in hidden


def test_a_model_that_borrows_has_no_figure(kit) -> None:
    class Borrowing(kit.predictor):
        def reconstruct(self, *, batch_size: int = 64, **values) -> list[Reconstruction]:
            return [replace(one, explained=None) for one in super().reconstruct(**values)]

    (result,) = Reconstruct().run(Borrowing(modalities=["image"]), kit.world(4))
    assert result.metrics == {}
    assert "true mean and contrast" in result.notes[0]
    assert len(result.gallery) == 4


def test_what_cannot_be_restored(kit) -> None:
    assert "no sample has media" in str(Reconstruct().applies(kit.world(3), ["text"]))
    with pytest.raises(CapabilityError, match="restores nothing of audio"):
        Reconstruct().run(kit.predictor(modalities=["audio"]), kit.world(3))
