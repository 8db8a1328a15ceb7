"""One optimisation step's forward and backward passes, over any number of micro-batches and ranks.

The same global batch gives the same gradient however it is divided. Losses that decompose are divided by
counts known beforehand. The contrastive loss needs all embeddings at once: they are computed (without
gradients if there are several micro-batches), and the gradient of the loss with respect to each is then carried
into the backward pass of its own micro-batch: see ``pull``.

Of a step with several micro-batches only one is held at a time, with its activations; of the others no more than
their embeddings. They may come from a lazy sequence that makes or reads each when it is asked for, twice a step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..core.batch import Batch
from ..core.random import seed_of
from ..core.state import unchanged_buffers
from ..objectives.contrastive import Contrastive
from ..objectives.objective import Objective
from .distributed import World, sum_gradients, sync_gradients
from .pull import Parts, Pull, parts_of, pull, surrogate


class Learner(nn.Module):
    """A model with its objectives, returning plain tensors, which is what FSDP2 can follow."""

    def __init__(self, model: nn.Module, objectives: Mapping[str, Objective]) -> None:
        super().__init__()
        self.model = model
        self.objectives = objectives

    def forward(self, batch: Batch, embed_only: bool = False) -> Parts:
        """What is contrasted, and unless ``embed_only`` the ``totals`` of the other objectives."""
        outputs = self.model(batch, embed_only=embed_only)
        totals: dict[str, Tensor] = {}
        if not embed_only:
            for objective in self.objectives.values():
                totals |= objective.totals(outputs)
        return {"totals": totals} | parts_of(outputs)

    def remember(self, keys: Mapping[str, Tensor]) -> None:
        """Hand what this step's outputs want remembered to the model that wants it."""
        cast(Any, self.model).remember(keys)


@dataclass
class Survey:
    """What is known of a step before its first backward pass: how much each loss counts and, if there are several
    micro-batches to contrast, their embeddings.
    """

    counts: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)
    parts: list[Parts] = field(default_factory=list)
    concepts: list[Tensor] = field(default_factory=list)


class Step:
    """Forward and backward of one step; gradients, summed over all ranks, are left in the parameters."""

    def __init__(
        self,
        learner: nn.Module,
        objectives: Mapping[str, Objective],
        contrastive: Contrastive | None,
        world: World,
        autocast: torch.dtype | None = None,
    ) -> None:
        self.learner, self.objectives, self.contrastive, self.world = learner, objectives, contrastive, world
        self.autocast = autocast
        self.parameters = list(learner.parameters())

    def __call__(self, batches: Sequence[Batch], seed: int = 0) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted loss and each named loss of the global batch, equal on every rank.

        ``batches`` are moved to the device one by one. Whatever the model draws at random (dropout) follows from
        ``seed``, the rank and the micro-batch.
        """
        survey = self._survey(batches, seed)
        asked: Pull | None = None
        if self.contrastive is not None and survey.parts:
            asked = pull(self.contrastive, survey.parts, survey.concepts, self.world)
            survey.parts.clear()
        totals = {
            name: torch.zeros((), dtype=torch.float64, device=self.world.device) for name in survey.counts
        }
        for index in range(len(batches)):
            sync_gradients(self.learner, index == len(batches) - 1)
            found, asked = self._learn(batches[index].to(self.world.device), index, seed, survey, asked)
            for name, total in found.items():
                totals[name] += total
        sum_gradients(self.parameters, self.world)
        if asked is not None and asked.keys:
            cast(Learner, self.learner).remember(asked.keys)
        return self._summary(totals, survey, asked)

    def _survey(self, batches: Sequence[Batch], seed: int) -> Survey:
        """Go through all micro-batches once."""
        survey = Survey()
        embed = self.contrastive is not None and len(batches) > 1
        for index in range(
            len(batches)
        ):  # no name for a batch here, which would keep it while the next is made
            self._look(batches[index], (seed, index), survey, embed)
        counts = torch.tensor(list(survey.counts.values()), dtype=torch.float64, device=self.world.device)
        survey.counts = dict(zip(survey.counts, self.world.sum(counts).tolist(), strict=True))
        return survey

    def _look(self, batch: Batch, draw: tuple[int, int], survey: Survey, embed: bool) -> None:
        """Count one micro-batch, and ``embed`` it without a trace: nothing but its embeddings is to remain."""
        for objective in self.objectives.values():
            for name, count in objective.counts(batch).items():
                survey.counts[name] = survey.counts.get(name, 0) + count
                survey.weights[name] = objective.weight
        if embed:
            batch = batch.to(self.world.device)
            with torch.no_grad(), unchanged_buffers(self.learner):
                found = self._run(batch, draw, embed_only=True)
            survey.parts.append(found)
            survey.concepts.append(batch.concept)

    def _learn(
        self, batch: Batch, index: int, seed: int, survey: Survey, asked: Pull | None
    ) -> tuple[dict[str, Tensor], Pull | None]:
        """Forward and backward of one micro-batch: its totals, and what the contrastive loss asked."""
        found = self._run(batch, (seed, index))
        if self.contrastive is not None and asked is None:
            asked = pull(self.contrastive, [found], [batch.concept], self.world)
        loss = torch.zeros((), device=self.world.device)
        for name, total in found["totals"].items():
            loss = loss + survey.weights[name] / max(survey.counts[name], 1) * total
        if asked is not None:
            loss = loss + surrogate(asked, found, index)
        loss.backward()
        return {name: total.detach() for name, total in found["totals"].items()}, asked

    def _run(self, batch: Batch, draw: tuple[int, int], embed_only: bool = False) -> Parts:
        """A forward pass; both passes over one micro-batch draw the same."""
        torch.manual_seed(seed_of("draw", self.world.rank, *draw))
        with torch.autocast(self.world.device.type, self.autocast, enabled=self.autocast is not None):
            return self.learner(batch, embed_only=embed_only)

    def _summary(
        self, totals: dict[str, Tensor], survey: Survey, asked: Pull | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        losses = {}
        loss = torch.zeros((), dtype=torch.float64, device=self.world.device)
        if totals:
            summed = self.world.sum(torch.stack(list(totals.values())))
            for name, total in zip(totals, summed, strict=True):
                if survey.counts[name]:
                    losses[name] = total / survey.counts[name]
                    loss = loss + survey.weights[name] * losses[name]
        if asked is not None and self.contrastive is not None:
            losses |= asked.contrast.losses
            loss = loss + self.contrastive.weight * asked.contrast.mean
        return loss, losses
