"""Two modalities of the same samples, and what a loss over their similarities is."""

from __future__ import annotations

import abc
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..core.exchange import Exchange
from .across import gather, gather_fixed, log_sum
from .tiles import log_sums_both


@dataclass(frozen=True)
class Pair:
    """This process's ``m`` samples that have both modalities, of ``n`` over all processes.

    Row i of ``a`` and of ``b`` belong to one sample. ``concept`` is equal for samples that mean the same.
    ``queue_a`` and ``queue_b`` are further rows of each modality, the same on every process, that no sample means.
    ``everyone`` and the like are exchanges: every process asks for the same ones in the same order.
    """

    a: Float[Tensor, "m d"]
    b: Float[Tensor, "m d"]
    scale: Float[Tensor, ""]
    bias: Float[Tensor, ""]
    concept: Int[Tensor, "m"]
    queue_a: Float[Tensor, "p d"]
    queue_b: Float[Tensor, "q d"]
    mine: slice
    count: int
    exchange: Exchange
    tile: int
    teacher: Pair | None = None

    @cached_property
    def swapped(self) -> Pair:
        """The same from the other side."""
        teacher = self.teacher.swapped if self.teacher is not None else None
        return replace(self, a=self.b, b=self.a, queue_a=self.queue_b, queue_b=self.queue_a, teacher=teacher)

    @cached_property
    def everyone(self) -> Float[Tensor, "n d"]:
        """``b`` of all processes."""
        return gather(self.b, self.mine, self.exchange)

    @cached_property
    def concepts(self) -> Int[Tensor, "n"]:
        """``concept`` of all processes."""
        return gather_fixed(self.concept, self.exchange)

    def log_sums(self) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"]]:
        """For each own row of ``a``, and each of ``b``: the log of the sum of exp(similarity) over everyone's other."""
        rows, part = log_sums_both(self.a, self.everyone, self.scale, tile=self.tile)
        return rows, log_sum(part, self.mine, self.exchange)

    def positives(self) -> tuple[Float[Tensor, "m"], Float[Tensor, "m"]]:
        """For each own row of ``a``: the sum of its products with the rows of ``b`` of its concept, and their number.

        In O(n d): what is shared by a concept is added up first.
        """
        _, which, counts = self.concepts.unique(return_inverse=True, return_counts=True)
        if len(counts) == self.count:  # every sample for itself
            return (self.a * self.b).sum(1), self.a.new_ones(len(self.a))
        sums = self.everyone.new_zeros(len(counts), self.b.shape[1]).index_add(0, which, self.everyone)
        own = which[self.mine]
        return (self.a * sums[own]).sum(1), counts[own].to(self.a.dtype)


class Pairwise(abc.ABC):
    """A loss over the similarities of one pair of modalities."""

    @abc.abstractmethod
    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        """This process's part of the loss in nats per sample of all processes: the parts add up to it."""


class Blend(Pairwise):
    """A weighted sum of several losses over the same pair. Raises ConfigError in the parts' own words."""

    def __init__(self, *, parts: list[Pairwise], weights: list[float]) -> None:
        self.parts, self.weights = parts, weights

    def __call__(self, pair: Pair) -> Float[Tensor, ""]:
        return torch.stack([w * part(pair) for part, w in zip(self.parts, self.weights, strict=True)]).sum()
