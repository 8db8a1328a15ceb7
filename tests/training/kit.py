"""A small world for tests of training: samples in memory, a float64 model, and trainers in a run directory."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from nn.toys import MODALITIES, WIDTH, model, sample
from rich.console import Console
from torch import Tensor, nn

from sensorium.core import DataError, Modality, Sample, Spec
from sensorium.data.sources.source import Source
from sensorium.objectives import Contrastive, MaskedPatches, MaskedTokens, NextToken, Objective
from sensorium.training.distributed import World
from sensorium.training.muon import Muon
from sensorium.training.rules import Rule
from sensorium.training.settings import Duration
from sensorium.training.trainer import Trainer, Training

#: What samples consist of, in turn: most lack something.
PARTS = (
    ("picture", "wave", "caption", "turn"),
    ("picture", "caption"),
    ("wave", "caption", "turn"),
    ("caption", "turn"),
    ("picture", "wave"),
)


class Memory(Source):
    """Samples from a list; an error in it is raised when its place is asked for."""

    name = "memory"

    def __init__(self, items: Sequence[Sample | DataError]) -> None:
        self.items = list(items)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Sample:
        item = self.items[index]
        if isinstance(item, DataError):
            raise item
        return item

    @property
    def problems(self) -> list[DataError]:
        return []


def samples(count: int) -> list[Sample]:
    return [sample(index, PARTS[index % len(PARTS)]) for index in range(count)]


def broken(count: int, of: int) -> list[Sample | DataError]:
    """Samples of which the first ones cannot be read."""
    errors = [
        DataError("cannot be decoded", key=f"b{index}", file="list.jsonl", line=index + 1, field="image")
        for index in range(count)
    ]
    return [*errors, *samples(of)[count:]]


class Poison(nn.Module):
    """The toy model, whose next-token logits are made ``value`` where a batch holds one of the ``keys``."""

    def __init__(self, network: nn.Module, keys: set[str], value: float) -> None:
        super().__init__()
        self.network, self.keys, self.value = network, keys, value

    def forward(self, batch, embed_only=False):
        found = self.network(batch, embed_only=embed_only)
        if not embed_only and self.keys & set(batch.keys):
            found.language.logits.data.fill_(self.value)
        return found


class Centred(nn.Module):
    """Batch normalisation of the mean alone: the batch's own in training, the running one otherwise."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("batches", torch.zeros((), dtype=torch.long))
        self.register_buffer("cache", torch.zeros(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not len(x):
            return x - self.mean
        mean = x.mean(0)
        self.mean.lerp_(mean.detach(), 0.1)
        self.batches += 1
        return x - mean


def centred(seed: int = 0) -> nn.Module:
    """The toy model, which keeps running statistics before its last block."""
    network = model(seed)
    last = network.trunk.blocks[-1]
    last.norm_attention = nn.Sequential(Centred(WIDTH), last.norm_attention)
    return network


def objectives() -> dict[str, Objective]:
    return {
        "language": NextToken(weight=1.0, stream="words", smoothing=0.1),
        "masked_tokens": MaskedTokens(weight=0.5, stream="words"),
        "masked_patches": MaskedPatches(weight=0.25),
    }


def trainer(
    run: Path,
    *,
    settings: Mapping[str, Any] | None = None,
    items: Sequence[Sample | DataError] | None = None,
    network: nn.Module | None = None,
    modalities: Mapping[str, Modality] = MODALITIES,
    losses: Mapping[str, Objective] | None = None,
    contrastive: Contrastive | None = Contrastive(weight=2.0),  # noqa: B008  it has no state
    world: World | None = None,
    validate: Any = None,
    console: Console | None = None,
) -> Trainer:
    """A trainer of the toy model; ``settings`` are paths into Training, such as ``loading.batch``;
    ``freeze`` is the pattern of what is to be frozen, ``muon`` the learning rate of that optimizer.
    """
    spec = Spec(Training, validate=0, duration=Spec(Duration, steps=6))
    defaults = {"loading.batch": 6, "optimizer.lr": 3e-3, "loading.corrupt": 0.3}
    for path, value in (defaults | dict(settings or {})).items():
        if path == "freeze":
            path, value = "rules", [Spec(Rule, pattern=value, rate=0.0)]
        elif path == "muon":
            path, value = "optimizer", Spec(Muon, lr=value)
        spec = spec.set(path, value)
    return Trainer(
        run=run,
        model=network if network is not None else model(),
        modalities=modalities,
        objectives=objectives() if losses is None else losses,
        contrastive=contrastive,
        sources=[(Memory(samples(17) if items is None else items), 1.0)],
        training=spec.build(),
        world=world or World(),
        validate=validate,
        console=console or Console(quiet=True),
    )


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def plain(file: Path) -> list[dict[str, Any]]:
    """The records of a log without what depends on the clock."""
    timed = ("seconds", "samples_per_second")
    return [{name: value for name, value in record.items() if name not in timed} for record in lines(file)]


def weights(trained: Trainer) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trained.named.items()}


@contextmanager
def exact() -> Iterator[None]:
    """Let float64 stay float64 where heads and losses round to float32, to compare beyond its precision."""
    rounded, default = Tensor.float, torch.get_default_dtype()
    Tensor.float = lambda x: x if x.dtype == torch.float64 else rounded(x)
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        Tensor.float = rounded
        torch.set_default_dtype(default)
