"""One optimisation step's forward and backward passes, over any number of micro-batches and ranks.

The same global batch gives the same gradient however it is divided. Losses that decompose are divided by
counts known beforehand. The contrastive loss needs all embeddings at once: they are computed (without
gradients if there are several micro-batches), gathered, and the gradient of the loss with respect to each
is then carried into the backward pass of its own micro-batch (GradCache, Gao et al. 2021, arXiv:2101.06983).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.batch import Batch
from ..core.outputs import Embedding
from ..core.random import seed_of
from ..objectives.contrastive import Contrast, Contrastive
from ..objectives.objective import Objective
from .distributed import World, sum_gradients, sync_gradients


class Learner(nn.Module):
    """A model with its objectives, returning plain tensors, which is what FSDP2 can follow."""

    def __init__(self, model: nn.Module, objectives: Mapping[str, Objective]) -> None:
        super().__init__()
        self.model = model
        self.objectives = objectives

    def forward(self, batch: Batch, embed_only: bool = False) -> dict[str, dict[str, Tensor]]:
        outputs = self.model(batch, embed_only=embed_only)
        totals: dict[str, Tensor] = {}
        if not embed_only:
            for objective in self.objectives.values():
                totals |= objective.totals(outputs)
        return {
            "totals": totals,
            "vectors": {name: found.vectors for name, found in outputs.embeddings.items()},
            "owner": {name: found.owner for name, found in outputs.embeddings.items()},
            "scale": {"scale": outputs.scale} if outputs.scale is not None else {},
        }


@dataclass(frozen=True)
class Pull:
    """The contrastive loss and its gradient at the embeddings of each micro-batch and at the scale."""

    contrast: Contrast
    vectors: list[dict[str, Tensor]]
    scale: Tensor


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

        Whatever the model draws at random (dropout) follows from ``seed``, the rank and the micro-batch.
        """
        counts, weights = self._counts(batches)
        pull: Pull | None = None
        if self.contrastive is not None and len(batches) > 1:
            with torch.no_grad():
                seen = [
                    self._run(batch, (seed, index), embed_only=True) for index, batch in enumerate(batches)
                ]
                pull = self._pull(batches, seen)
        totals = {name: torch.zeros((), dtype=torch.float64, device=self.world.device) for name in counts}
        for index, batch in enumerate(batches):
            sync_gradients(self.learner, index == len(batches) - 1)
            found = self._run(batch, (seed, index))
            if self.contrastive is not None and pull is None:
                pull = self._pull(batches, [found])
            surrogate = torch.zeros((), device=self.world.device)
            for name, total in found["totals"].items():
                surrogate = surrogate + weights[name] / max(counts[name], 1) * total
            if pull is not None:
                for name, vectors in found["vectors"].items():
                    surrogate = surrogate + (vectors * pull.vectors[index][name]).sum()
                equal_part = pull.scale / (self.world.size * len(batches))
                surrogate = surrogate + found["scale"]["scale"] * equal_part
            surrogate.backward()
            for name, total in found["totals"].items():
                totals[name] += total.detach()
        sum_gradients(self.parameters, self.world)
        return self._summary(totals, counts, weights, pull)

    def _run(
        self, batch: Batch, draw: tuple[int, int], embed_only: bool = False
    ) -> dict[str, dict[str, Tensor]]:
        """A forward pass; both passes over one micro-batch draw the same."""
        torch.manual_seed(seed_of("draw", self.world.rank, *draw))
        with torch.autocast(self.world.device.type, self.autocast, enabled=self.autocast is not None):
            return self.learner(batch, embed_only=embed_only)

    def _counts(self, batches: Sequence[Batch]) -> tuple[dict[str, float], dict[str, float]]:
        counts: dict[str, int] = {}
        weights: dict[str, float] = {}
        for objective in self.objectives.values():
            for batch in batches:
                for name, count in objective.counts(batch).items():
                    counts[name] = counts.get(name, 0) + count
                    weights[name] = objective.weight
        summed = self.world.sum(
            torch.tensor(list(counts.values()), dtype=torch.float64, device=self.world.device)
        )
        return dict(zip(counts, summed.tolist(), strict=True)), weights

    def _summary(
        self,
        totals: dict[str, Tensor],
        counts: dict[str, float],
        weights: dict[str, float],
        pull: Pull | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        losses = {}
        loss = torch.zeros((), dtype=torch.float64, device=self.world.device)
        if totals:
            summed = self.world.sum(torch.stack(list(totals.values())))
            for name, total in zip(totals, summed, strict=True):
                if counts[name]:
                    losses[name] = total / counts[name]
                    loss = loss + weights[name] * losses[name]
        if pull is not None and self.contrastive is not None:
            losses |= pull.contrast.losses
            loss = loss + self.contrastive.weight * pull.contrast.mean
        return loss, losses

    def _pull(self, batches: Sequence[Batch], found: Sequence[dict[str, dict[str, Tensor]]]) -> Pull:
        """Contrast the embeddings of all micro-batches of all ranks."""
        assert self.contrastive is not None
        names = list(found[0]["vectors"])
        offsets = self._offsets([len(batch) for batch in batches])
        leaves, owners, mine = {}, {}, {}
        for name in names:
            rows = torch.cat([part["vectors"][name].detach() for part in found])
            places = torch.cat(
                [part["owner"][name] + offset for part, offset in zip(found, offsets, strict=True)]
            )
            gathered = self.world.gather_rows(rows)
            before = sum(len(part) for part in gathered[: self.world.rank])
            mine[name] = slice(before, before + len(rows))
            leaves[name] = torch.cat(gathered).requires_grad_()
            owners[name] = torch.cat(self.world.gather_rows(places))
        concept = torch.cat(self.world.gather_rows(torch.cat([batch.concept for batch in batches])))
        scale = found[0]["scale"]["scale"].detach().requires_grad_()
        with torch.enable_grad():
            embeddings = {name: Embedding(leaves[name], owners[name]) for name in names}
            contrast = self.contrastive(embeddings, scale, concept)
            loss = self.contrastive.weight * contrast.mean
        wanted = [scale, *leaves.values()]
        if contrast.losses:
            gradients = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
        else:
            gradients = tuple(torch.zeros_like(leaf) for leaf in wanted)
        per_name = dict(zip(names, gradients[1:], strict=True))
        vectors: list[dict[str, Tensor]] = [{} for _ in found]
        for name in names:
            sizes = [len(part["vectors"][name]) for part in found]
            for part, gradient in zip(vectors, per_name[name][mine[name]].split(sizes), strict=True):
                part[name] = gradient
        detached = {name: value.detach() for name, value in contrast.losses.items()}
        return Pull(Contrast(detached, contrast.mean.detach()), vectors, gradients[0])

    def _offsets(self, sizes: Sequence[int]) -> list[int]:
        """What to add to the owners of each micro-batch to number all samples of all ranks."""
        everyone = self.world.gather_rows(torch.tensor([sum(sizes)], device=self.world.device))
        start = int(sum(int(count) for count in everyone[: self.world.rank]))
        return [start + sum(sizes[:index]) for index in range(len(sizes))]
