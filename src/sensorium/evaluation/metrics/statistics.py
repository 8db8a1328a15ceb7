"""Figures with their uncertainty: percentile bootstrap intervals over independent units."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

RESAMPLES = 1000
LEVEL = 0.95
_CHUNK = 4_000_000  # drawn indices held at once: 32 MB


@dataclass(frozen=True)
class Figure:
    """A value, its 95 % interval, and the number ``n`` of independent units behind it.

    ``chance`` is what guessing would give, where that is known.
    """

    value: float
    low: float
    high: float
    n: int
    chance: float | None = None

    def against(self, chance: float) -> Figure:
        """This figure with its chance level."""
        return replace(self, chance=chance)

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}


def bootstrap(
    values: Float[Tensor, "n"],
    *,
    groups: Int[Tensor, "n"] | None = None,
    statistic: Literal["mean", "median"] = "mean",
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Figure:
    """The mean (or median) with its percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    Values of one group (the questions about one picture) are drawn together, since they are not
    independent; ``n`` is then the number of groups. Where every value is 0, or every value is 1,
    resampling cannot show any doubt: the exact binomial bound (Clopper & Pearson 1934) is given instead.
    The reference implementation is ``scipy.stats.bootstrap(method="percentile")``.
    """
    figure = _resampled(values, groups, statistic, resamples, level, seed)
    if statistic == "mean" and figure.value in (0.0, 1.0) and bool((values == figure.value).all()):
        reach = 1 - ((1 - level) / 2) ** (1 / figure.n)
        low, high = (0.0, reach) if figure.value == 0 else (1 - reach, 1.0)
        return replace(figure, low=low, high=high)
    return figure


def paired_difference(
    first: Float[Tensor, "n"],
    second: Float[Tensor, "n"],
    *,
    groups: Int[Tensor, "n"] | None = None,
    resamples: int = RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Figure:
    """The mean of ``first - second``, measured on the same units, with its percentile bootstrap interval."""
    if first.shape != second.shape:
        raise ValueError(f"paired values differ in shape: {tuple(first.shape)} and {tuple(second.shape)}")
    return _resampled(first.double() - second.double(), groups, "mean", resamples, level, seed)


def _resampled(
    values: Tensor, groups: Tensor | None, statistic: str, resamples: int, level: float, seed: int
) -> Figure:
    if values.ndim != 1 or not len(values):
        raise ValueError(f"expected a non-empty vector of values, found shape {tuple(values.shape)}")
    values = values.double()
    if statistic == "median":
        if groups is not None:
            raise ValueError("a median is not taken over groups")
        n, value = len(values), values.quantile(0.5)
        drawn = [values[index].quantile(0.5, dim=1) for index in _draws(n, resamples, seed)]
    else:
        sums, sizes = _by_group(values, groups)
        n, value = len(sums), sums.sum() / sizes.sum()
        drawn = [sums[index].sum(1) / sizes[index].sum(1) for index in _draws(n, resamples, seed)]
    tail = (1 - level) / 2
    low, high = torch.cat(drawn).quantile(torch.tensor([tail, 1 - tail], dtype=torch.float64)).tolist()
    return Figure(value=value.item(), low=low, high=high, n=n)


def _by_group(values: Tensor, groups: Tensor | None) -> tuple[Tensor, Tensor]:
    if groups is None:
        return values, torch.ones_like(values)
    _, index = groups.unique(return_inverse=True)
    sums = torch.zeros(int(index.max()) + 1, dtype=values.dtype)
    return sums.index_add(0, index, values), torch.bincount(index).to(values.dtype)


def _draws(n: int, resamples: int, seed: int) -> list[Tensor]:
    """``resamples`` rows of ``n`` indices with replacement, in chunks of bounded size."""
    generator = torch.Generator().manual_seed(seed)
    rows = max(1, _CHUNK // n)
    starts = range(0, resamples, rows)
    return [torch.randint(n, (min(rows, resamples - start), n), generator=generator) for start in starts]
