"""check_recipe: the package's recipe passes, and each thing that a system cannot do is named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from testing.toys import WIDTH, samples, small
from torch import Tensor, nn

from sensorium.core import Batch, ConfigError, Outputs, Spec
from sensorium.modalities import Series, Text
from sensorium.nn.encoders.grid import GridEncoder
from sensorium.nn.encoders.stems import LinearStem, Stem
from sensorium.objectives import NextToken, Objective
from sensorium.recipes.unified import unified
from sensorium.testing import check_recipe
from sensorium.training.rules import Rule

STEM = "model.encoders.series.stem"


class Neighbours(LinearStem):
    """Subtracts the mean of the batch."""

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        found = super().forward(values, lengths)
        return found - found.mean((0, 1)) if len(found) else found


class Spare(LinearStem):
    """Has a layer that nothing uses."""

    def __init__(self, *, patch: list[int], channels: int, width: int) -> None:
        super().__init__(patch=patch, channels=channels, width=width)
        self.spare = nn.Linear(2, 2)


class Statistics(LinearStem):
    """Keeps what it learns in a buffer that is not saved."""

    def __init__(self, *, patch: list[int], channels: int, width: int) -> None:
        super().__init__(patch=patch, channels=channels, width=width)
        self.register_buffer("seen", torch.zeros(()), persistent=False)

    def forward(self, values: Tensor, lengths: Tensor) -> Tensor:
        if self.training:
            self.seen += 1.0
        return super().forward(values, lengths) + self.seen


class Misannotated(LinearStem):
    def __init__(self, *, patch: list[int], channels: int, width: int, slope: int = 0.5) -> None:  # type: ignore[assignment]
        super().__init__(patch=patch, channels=channels, width=width)


class Forgetful(Series):  # type: ignore[misc]
    """Saves nothing of what it learns."""

    def save(self, directory: Path) -> None:
        pass

    def load(self, directory: Path) -> None:
        pass


class Moody(Text):  # type: ignore[misc]
    """Writes something else each time."""

    written = 0

    def decode(self, ids: Any) -> str:
        self.written += 1
        return str(self.written)


class Mean(Objective):
    """An average where a sum is wanted."""

    def __init__(self, *, weight: float = 1.0, scale: float = 1.0) -> None:
        self.weight, self.scale = weight, scale

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"mean": len(batch)}

    def totals(self, outputs: Outputs) -> dict[str, Tensor]:
        return {"mean": self.scale * outputs.language.logits.square().mean()}


class Explodes(Objective):
    """Not a number."""

    weight = 1.0

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"nan": len(batch)}

    def totals(self, outputs: Outputs) -> dict[str, Tensor]:
        return {"nan": outputs.language.logits.sum() * float("nan")}


class Uphill(Objective):
    """Rewards what the gradient should avoid: its gradient has the wrong sign."""

    def __init__(self, *, weight: float = 1.0) -> None:
        self.weight = weight

    def counts(self, batch: Batch) -> dict[str, int]:
        return NextToken().counts(batch)

    def totals(self, outputs: Outputs) -> dict[str, Tensor]:
        total = NextToken().totals(outputs)["language"]
        return {"language": 2 * total.detach() - total}


def with_stem(cls: type[Stem]) -> Spec:
    return small().set(STEM, Spec(cls, patch=[2], channels=2, width=WIDTH))


def with_objective(objective: Spec) -> Spec:
    return small().set("objectives", small().objectives | {"mine": objective})


def with_modality(name: str, spec: Spec) -> Spec:
    return small().set("modalities", small().modalities | {name: spec})


def local_objective() -> Spec:
    class Local(Mean):
        pass

    return with_objective(Spec(Local))


def test_passes():
    check_recipe(small, samples())
    check_recipe(unified("tiny").override("modalities.series.channels=2"), samples(3))


def test_rules_may_freeze():
    frozen = small().set("training.rules", [Spec(Rule, pattern="^encoders", rate=0.0)])
    check_recipe(frozen, samples())


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (local_objective(), "define its classes at the top of a module"),
        (with_objective(Spec(NextToken, smoothing=float("nan"))), "another one after saving"),
        (with_stem(Misannotated), r"stem.slope=0.5 is refused: Misannotated.slope expects int, found 0.5"),
        (with_stem(Neighbours), "differs for samples alone and in a batch"),
        (with_stem(Spare), "with a batch of 'series' only, encoders.series.stem.spare.weight"),
        (with_objective(Spec(Mean)), "the same batch in two parts"),
        (with_objective(Spec(Explodes)), "the loss is not finite"),
        (with_objective(Spec(Uphill, weight=100.0)), "the loss does not fall in 3 steps"),
        (with_stem(Statistics), "embeddings of 'series' are not the same after save_pretrained"),
        (with_modality("series", Spec(Forgetful, channels=2)), "embeddings of 'series' are not the same"),
        (with_modality("text", Spec(Moody, vocabulary=270)), "writes '1', then '2'"),
    ],
)
def test_names_what_does_not_work(spec: Spec, message: str):
    with pytest.raises(AssertionError, match=message):
        check_recipe(spec, samples())


@pytest.mark.parametrize(
    ("recipe", "given", "steps", "message"),
    [
        (small, samples(1), 3, "at least 2 samples, found 1"),
        (small, samples(), 0, "steps must be at least 1"),
        (Spec(GridEncoder), samples(), 3, "gives a Spec of a System, found Spec"),
        (lambda: None, samples(), 3, "gives a Spec of a System, found None"),
        (small().set("model.trunk.width", 8), samples(), 3, "width 16, the trunk 8"),
    ],
)
def test_what_cannot_be_checked(recipe: Any, given: Sequence[Any], steps: int, message: str):
    with pytest.raises(ConfigError, match=message):
        check_recipe(recipe, given, steps=steps)
