"""A recipe made ready on a handful of samples, exactly as a run makes it ready on its data."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ..core import Batch, ConfigError, Modality, Sample, Spec
from ..core.modality import Composer
from ..core.system import System
from ..data.collate import collate
from ..data.item import Draws, prepare
from ..data.sources.source import Source
from ..model import Model, build_modalities
from ..nn.architectures.unified import Unified
from ..objectives import Objective
from ..run import follow_data, only_present
from ..training.distributed import World
from ..training.step import Learner, Step
from ..training.trainer import Training

_DRAWS = Draws(corrupt=0.5)  # so that masked losses have something in a small batch
_MOST_SAMPLES = 16

#: A System's Spec, or a recipe function that gives one.
Recipe = Spec | Callable[[], Spec]
#: A few samples, or a source whose first ones are taken.
Samples = Sequence[Sample] | Source


@dataclass(frozen=True)
class Material:
    """A recipe's parts, built for the modalities of ``samples`` and fitted on them."""

    spec: Spec
    system: System
    modalities: dict[str, Modality]
    network: Unified
    objectives: dict[str, Objective]
    training: Training
    samples: list[Sample]

    def model(self) -> Model:
        """The parts as a user holds them."""
        return Model(self.network.eval(), self.modalities, self.spec)

    def batch(self, samples: Sequence[Sample]) -> Batch:
        """What training would draw for ``samples``; the same at every call."""
        items = [prepare(sample, self.modalities, draws=_DRAWS) for sample in samples]
        return collate(items, self.modalities)

    @property
    def composes(self) -> bool:
        """Whether a sample is read as one sequence of words, media among them."""
        return any(isinstance(modality, Composer) for modality in self.modalities.values())

    def only(self, name: str) -> list[Sample]:
        """One sample with nothing but its segments of a modality, with the words that it is read among if so, or none
        where there is no such sample.
        """
        kept = {name, self.network.language} if self.composes else {name}
        parts = [
            replace(sample, segments=tuple(s for s in sample.segments if s.modality in kept))
            for sample in self.samples
        ]
        wanted = [part for part in parts if any(s.modality == name for s in part.segments)]
        return [part for part in wanted if not self.composes or any(s.target for s in part.segments)][:1]

    def step(self, batches: Sequence[Batch]) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and each named loss over micro-batches; gradients are left in the parameters."""
        contrastive = self.system.contrastive.build() if self.system.contrastive is not None else None
        learner = Learner(self.network, self.objectives)
        return Step(learner, self.objectives, contrastive, World())(batches)

    def gradients(self, batches: Sequence[Batch]) -> dict[str, Tensor | None]:
        """The gradient of a step at every parameter that is not frozen."""
        self.network.zero_grad(set_to_none=True)
        self.step(batches)
        found = {name: p.grad for name, p in self.network.named_parameters() if p.requires_grad}
        self.network.zero_grad(set_to_none=True)
        return found


def ready(recipe: Recipe, samples: Samples) -> Material:
    """Build ``recipe`` for ``samples``. Raises ConfigError for too few samples or what is no System's Spec."""
    spec = recipe if isinstance(recipe, Spec) else recipe()
    if not isinstance(spec, Spec) or spec.cls is not System:
        raise ConfigError(f"a recipe gives a Spec of a System, found {spec!r}")
    chosen = [samples[index] for index in range(min(len(samples), _MOST_SAMPLES))]
    if len(chosen) < 2:
        raise ConfigError(f"a check of a recipe needs at least 2 samples, found {len(chosen)}")
    spec = only_present(spec, {name for sample in chosen for name in sample.modalities()})
    modalities = build_modalities(spec.build(), None)
    for name, modality in modalities.items():
        modality.fit(_raws(name, modality, chosen))
    spec = follow_data(spec, modalities)
    system: System = spec.build()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = system.model.build()
    objectives = {name: part.build() for name, part in system.objectives.items()}
    training = system.training.build()
    return Material(spec, system, modalities, network.eval(), objectives, training, chosen)


def _raws(name: str, modality: Modality, samples: Collection[Sample]) -> Iterator[Any]:
    for sample in samples:
        for segment in sample.segments:
            if segment.modality == name:
                yield modality.load_value(segment.value)
