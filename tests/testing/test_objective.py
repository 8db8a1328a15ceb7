"""check_objective: the package's objectives pass, and each broken promise is named."""

from __future__ import annotations

import pytest
import torch
from testing.toys import samples, small
from torch import Tensor

from sensorium.core import Batch, ConfigError, Outputs
from sensorium.objectives import MaskedPatches, MaskedTokens, NextToken, Objective
from sensorium.testing import check_objective


class Good(Objective):
    """The summed squares of the next tokens' logits, named "logits"."""

    weight = 1.0

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"logits": NextToken().counts(batch)["language"]}

    def totals(self, outputs: Outputs) -> dict[str, Tensor]:
        return {"logits": self.total(outputs.language.logits)}

    def total(self, logits: Tensor) -> Tensor:
        return logits.square().sum()


class Weightless(Good):
    weight = None  # type: ignore[assignment]


class FloatCounts(Good):
    def counts(self, batch: Batch) -> dict[str, int]:
        return {"logits": torch.tensor(float(super().counts(batch)["logits"]))}  # type: ignore[dict-item]


class CountsBatches(Good):
    def counts(self, batch: Batch) -> dict[str, int]:
        return {"logits": 1}


class CountsNothing(Good):
    def counts(self, batch: Batch) -> dict[str, int]:
        return {"logits": 0}


class OtherTotal(Good):
    def totals(self, outputs: Outputs) -> dict[str, Tensor]:
        return {"logit": outputs.language.logits.sum()}


class OtherCount(Good):
    def counts(self, batch: Batch) -> dict[str, int]:
        return super().counts(batch) | {"more": len(batch)}


class PerToken(Good):
    def total(self, logits: Tensor) -> Tensor:
        return logits.square().sum(1)


class Mean(Good):
    def total(self, logits: Tensor) -> Tensor:
        return logits.square().mean()


class Infinite(Good):
    def total(self, logits: Tensor) -> Tensor:
        return (logits * 0).log().sum()


class Detached(Good):
    def total(self, logits: Tensor) -> Tensor:
        return logits.detach().square().sum()


class Steep(Good):
    def total(self, logits: Tensor) -> Tensor:
        return (logits * 0).sqrt().sum()


class Elsewhere(Good):
    """Counts recordings, but has a total for text without any."""

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"logits": len(batch.streams["series"])}


@pytest.mark.parametrize("objective", [Good(), NextToken(), MaskedTokens(), MaskedPatches()])
def test_passes(objective: Objective):
    check_objective(objective, small, samples())


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Weightless, "set self.weight"),
        (FloatCounts, "return an int from 0"),
        (CountsBatches, "counts are not additive"),
        (CountsNothing, "counts are all 0"),
        (OtherTotal, "totals has 'logit', which counts lacks"),
        (OtherCount, "counts has 'more' = 5, which totals lacks"),
        (PerToken, "sum it to a scalar"),
        (Infinite, "is -inf: guard logarithms"),
        (Mean, r"totals\['logits'\] is not additive"),
        (Detached, "have no gradient"),
        (Steep, "gradient of totals is not finite"),
        (Elsewhere, "with only 'text', where its count is 0"),
    ],
)
def test_names_the_broken_promise(cls: type[Objective], message: str):
    with pytest.raises(AssertionError, match=message):
        check_objective(cls(), small(), samples())


def test_too_few_samples():
    with pytest.raises(ConfigError, match="at least 2 samples, found 1"):
        check_objective(Good(), small, samples(1))
