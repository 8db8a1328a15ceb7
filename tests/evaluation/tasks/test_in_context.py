"""In-context learning: what a prompt holds, and that nothing but its demonstrations can tell the name."""

from __future__ import annotations

from typing import Any

import pytest

from sensorium.core import ConfigError, Sample, Segment
from sensorium.evaluation import InContext


def sample(number: int, kind: str) -> Sample:
    picture = Segment("image", f"{kind} {number}")
    return Sample(f"{kind}-{number}", (picture, Segment("text", kind, target=True)), labels={"label": kind})


SAMPLES = [sample(number, kind) for kind in ("star", "moon", "ring") for number in range(5)]


class Looker:
    """Answers with the name that it was given for a picture of the same kind; "?" without one."""

    modalities = {"image": None, "text": None}

    def __init__(self) -> None:
        self.prompts: list[Sample] = []

    def complete(self, samples: Any, *, max_new_tokens: int = 64, batch_size: int = 64) -> list[str]:
        self.prompts += samples
        return [self.answer(one) for one in samples]

    def answer(self, prompt: Sample) -> str:
        *shown, last = [s for s in prompt.segments if s.modality == "image"]
        names = [s.value for s in prompt.segments if s.role == "assistant"]
        kinds = {s.value.split()[0]: name for s, name in zip(shown, names, strict=True)}
        return kinds.get(last.value.split()[0], "?")


def test_demonstrations_tell_the_name():
    looker = Looker()
    [result] = InContext(shots=(0, 2, 6), limit=12).run(looker, SAMPLES)
    values = {name: figure.value for name, figure in result.metrics.items()}
    assert values == {"accuracy, 0 shots": 0.0, "accuracy, 2 shots": 1.0, "accuracy, 6 shots": 1.0}
    assert len(result.records) == 36
    for prompt in looker.prompts:
        pictures = [s.value for s in prompt.segments if s.modality == "image"]
        assert pictures[-1] not in pictures[:-1]
        assert not any(segment.target for segment in prompt.segments)
        roles = [s.role for s in prompt.segments]
        assert roles == ["user", "user", "assistant"] * (len(pictures) - 1) + ["user", "user"]


def test_more_shots_begin_with_the_same():
    looker = Looker()
    InContext(shots=(2, 6), limit=3).run(looker, SAMPLES)
    for few, many in zip(looker.prompts[:3], looker.prompts[3:], strict=True):
        assert many.segments[:6] == few.segments[:6]
        assert many.segments[-2:] == few.segments[-2:]


def test_when_it_does_not_apply():
    task = InContext()
    assert task.applies(SAMPLES, ["image"]) == "the model knows no text"
    assert (
        task.applies(SAMPLES[:5], ["image", "text"]) == "fewer than 2 classes have media that the model knows"
    )
    assert task.applies(SAMPLES, ["image", "text"]) is None
    for wrong in ({"shots": ()}, {"shots": (-1,)}, {"ways": 1}, {"ways": 99}):
        with pytest.raises(ConfigError):
            InContext(**wrong)
