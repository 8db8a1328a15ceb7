"""Whether an objective adds up: parts of a batch must give what the whole gives."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..core import Sample
from ..objectives import Objective
from .claims import claim, close
from .material import Material, Recipe, Samples, ready


def check_objective(objective: Objective, recipe: Recipe, samples: Samples) -> None:
    """Raise AssertionError for the first promise of ``sensorium.objectives.Objective`` that is broken.

    The outputs are those of the untrained model of ``recipe`` (a System's Spec or a function that gives one) for
    ``samples``: from 2 to 16, or a source, of which the first 16 are taken. Raises ConfigError if there are fewer.
    """
    material = ready(recipe, samples)
    _check_weight(objective)
    _check_counts(objective, material)
    _check_totals(objective, material)
    _check_gradient(objective, material)
    _check_nothing_to_do(objective, material)


def _check_weight(objective: Objective) -> None:
    """There is a weight with which the loss is added to the others."""
    weight = getattr(objective, "weight", None)
    claim(
        isinstance(weight, int | float),
        f"weight is {weight!r}: set self.weight to a number in the constructor",
    )


def _check_counts(objective: Objective, material: Material) -> None:
    """Counts are whole numbers that add up over parts of the batch."""
    whole, parts = _counts(objective, material, material.samples), _halves(material)
    for name, count in whole.items():
        claim(isinstance(count, int) and count >= 0, f"counts[{name!r}] is {count!r}: return an int from 0")
    added = {name: sum(_counts(objective, material, part).get(name, 0) for part in parts) for name in whole}
    claim(
        added == whole,
        f"counts are not additive: the parts of a batch give {added}, the whole gives {whole}: count what is in the "
        "batch (tokens, segments, samples), not batches",
    )
    claim(
        any(whole.values()),
        f"counts are all 0 ({whole}): give samples on which the objective has something to do",
    )


def _check_totals(objective: Objective, material: Material) -> None:
    """Totals are scalars with the names of the counts, and add up over parts of the batch."""
    whole, names = (
        _totals(objective, material, material.samples),
        _counts(objective, material, material.samples),
    )
    for name, total in whole.items():
        claim(name in names, f"totals has {name!r}, which counts lacks: give both the same names")
        claim(total.shape == (), f"totals[{name!r}] has the shape {list(total.shape)}: sum it to a scalar")
        claim(bool(total.isfinite()), f"totals[{name!r}] is {total.item()}: guard logarithms and divisions")
    for name, count in names.items():
        claim(
            name in whole or not count,
            f"counts has {name!r} = {count}, which totals lacks: give both the same names",
        )
    parts = [_totals(objective, material, part) for part in _halves(material)]
    for name, total in whole.items():
        added = torch.stack([part[name] for part in parts if name in part]).sum()
        claim(
            close(added, total),
            f"totals[{name!r}] is not additive: the parts of a batch give {added.item():.6g}, the whole gives "
            f"{total.item():.6g}: return the sum over its parts and leave the division to counts",
        )


def _check_gradient(objective: Objective, material: Material) -> None:
    """The gradient is there and finite."""
    total = torch.stack(list(_totals(objective, material, material.samples).values())).sum()
    claim(total.requires_grad, "totals have no gradient: compute them from outputs, without detach or item")
    found = torch.autograd.grad(total, list(material.network.parameters()), allow_unused=True)
    finite = all(bool(gradient.isfinite().all()) for gradient in found if gradient is not None)
    claim(finite, "the gradient of totals is not finite: guard roots, norms and divisions at 0")


def _check_nothing_to_do(objective: Objective, material: Material) -> None:
    """A batch that lacks everything but one modality gives finite totals, which are 0 where the count is."""
    for name in material.modalities:
        samples = material.only(name)
        if samples:
            counts, totals = _counts(objective, material, samples), _totals(objective, material, samples)
            for loss, total in totals.items():
                good = bool(total.isfinite()) and (counts.get(loss, 0) > 0 or total.item() == 0)
                claim(
                    good,
                    f"totals[{loss!r}] is {total.item()} for a sample with only {name!r}, where its count is "
                    f"{counts.get(loss, 0)}: sum rather than average, so that nothing gives 0",
                )


def _counts(objective: Objective, material: Material, samples: Sequence[Sample]) -> dict[str, int]:
    return objective.counts(material.batch(samples))


def _totals(objective: Objective, material: Material, samples: Sequence[Sample]) -> dict[str, Tensor]:
    return objective.totals(material.network(material.batch(samples)))


def _halves(material: Material) -> list[list[Sample]]:
    middle = (len(material.samples) + 1) // 2
    return [material.samples[:middle], material.samples[middle:]]
