"""A small network with everything that a contrastive loss may ask for, and its gradient by plain autograd.

Run by tests as ``aligned.py SIZE FOLDER``: every case in SIZE processes joined by gloo, and what each rank found
in FOLDER/rank-N.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
import torch.nn.functional as F
from nn.toys import VOCABULARY, batch, sample
from objectives import naive
from objectives.naive import Asked
from torch import Tensor, nn
from training.kit import exact

from sensorium.core import Batch
from sensorium.core.outputs import Embedding, Outputs
from sensorium.core.random import seed_of
from sensorium.nn.architectures.momentum import Momentum
from sensorium.nn.architectures.network import Network
from sensorium.nn.architectures.taught import Taught
from sensorium.objectives import Affinity, Contrastive, InfoNCE, Pairwise, Sigmoid
from sensorium.training.distributed import World
from sensorium.training.step import Learner, Step

WIDTH = 6
#: By rank: what the samples of each micro-batch have. The second rank has fewer, and no waves.
RANKS: list[list[list[tuple[str, ...]]]] = [
    [[("picture", "wave", "caption")] * 4, [("picture", "caption"), ("wave", "caption"), ("picture",)]],
    [[("caption",), ("picture", "caption")], [("picture", "caption")]],
]
#: What is asked for, the same of ours, and the modality that has a queue.
CASES: dict[str, tuple[Asked, Pairwise, str | None]] = {
    "both": (Asked(), InfoNCE(), None),
    "second": (Asked(directions="second"), InfoNCE(directions="second"), None),
    "smooth, with a queue": (Asked(smoothing=0.1), InfoNCE(smoothing=0.1), "words"),
    "anchored": (Asked(anchor="words"), InfoNCE(), None),
    "hard, with a queue": (Asked(hardest=2), InfoNCE(hardest=2), "picture"),
    "sigmoid": (Asked(kind="sigmoid"), Sigmoid(), None),
    "sigmoid, with a queue": (Asked(kind="sigmoid"), Sigmoid(), "words"),
    "hard sigmoid": (Asked(kind="sigmoid", hardest=2), Sigmoid(hardest=2), None),
    "affinity": (Asked(kind="affinity"), Affinity(), None),
}


class Toy(Network):
    """Means of values, dropout, one linear map per modality, temperature and bias. ``queue`` names who has one."""

    def __init__(self, seed: int, width: int = WIDTH, queue: str | None = None, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        sizes = {"picture": 3, "wave": 5, "words": WIDTH}
        self.maps = nn.ModuleDict({name: nn.Linear(size, width) for name, size in sizes.items()})
        self.dropout = nn.Dropout(dropout)
        self.log_scale, self.offset = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.tensor(-2.0))
        self.queue = {queue: F.normalize(torch.randn(5, width), dim=1)} if queue else {}
        self.double()

    def forward(self, of: Batch, embed_only: bool = False) -> Outputs:
        found = {}
        for name, stream in of.streams.items():
            values = self.words(stream.values) if name == "words" else stream.values
            values = values.flatten(2, -2).mean(2) if values.ndim > 3 else values
            pooled = (values * stream.padding()[..., None]).sum(1) / stream.lengths[:, None]
            found[name] = Embedding(F.normalize(self.maps[name](self.dropout(pooled)), dim=1), stream.owner)
        return Outputs(embeddings=found, scale=self.log_scale.exp(), bias=self.offset, queue=self.queue)


def micro_batches(parts: Sequence[Sequence[tuple[str, ...]]], start: int) -> list[Batch]:
    """Samples numbered from ``start``, of which every third has the same concept."""
    made = []
    for part in parts:
        one = batch([sample(start + index, has) for index, has in enumerate(part)])
        number = torch.arange(start, start + len(part))
        one = Batch(one.streams, one.keys, torch.where(number % 3 == 0, -1, number))
        made.append(one)
        start += len(part)
    return made


def divisions() -> dict[str, list[list[Batch]]]:
    """The same samples: by rank, each rank's micro-batches."""
    first, second = micro_batches(RANKS[0], 0), micro_batches(RANKS[1], 7)
    together = [[has for part in parts for has in part] for parts in RANKS]
    alone = [micro_batches([together[0]], 0), micro_batches([together[1]], 7)]
    return {
        "whole": [micro_batches([together[0] + together[1]], 0)],
        "cached": [first + second],
        "ranks": alone,
        "cached ranks": [first, second],
    }


def network(case: str, dropout: float = 0.0) -> Network:
    student = Toy(0, queue=CASES[case][2], dropout=dropout)
    return Taught(student=student, teacher=Toy(1, width=4)) if case == "affinity" else student


def expected(case: str, ranks: Sequence[Sequence[Batch]], seed: int, dropout: float) -> dict[str, Any]:
    """The loss over all graphs at once, each micro-batch drawn as the step draws it."""
    model, asked = network(case, dropout), CASES[case][0]
    found, concepts = [], []
    for rank, parts in enumerate(ranks):
        for index, part in enumerate(parts):
            torch.manual_seed(seed_of("draw", rank, seed, index))
            found.append(model(part))
            concepts.append(part.concept)
    starts = [sum(len(one) for one in concepts[:index]) for index in range(len(concepts))]
    pairs = naive.contrastive(_join(found, starts), torch.cat(concepts), asked)
    loss = 2.0 * naive.weighted_mean(pairs)
    loss.backward()
    return _report(loss, {name: value for name, (value, _) in pairs.items()}, model)


def _join(found: Sequence[Outputs], starts: Sequence[int]) -> Outputs:
    embeddings = {}
    for name in found[0].embeddings:
        parts = [(one.embeddings[name], start) for one, start in zip(found, starts, strict=True)]
        embeddings[name] = Embedding(
            torch.cat([part.vectors for part, _ in parts]),
            torch.cat([part.owner + start for part, start in parts]),
        )
    teacher = _join([one.teacher for one in found], starts) if found[0].teacher else None
    first = found[0]
    return Outputs(
        embeddings=embeddings, scale=first.scale, bias=first.bias, queue=first.queue, teacher=teacher
    )


def stepped(case: str, world: World, parts: Sequence[Batch], seed: int, dropout: float) -> dict[str, Any]:
    """The same by a step."""
    model, (asked, pairwise, _) = network(case, dropout), CASES[case]
    contrastive = Contrastive(weight=2.0, pairwise=pairwise, anchor=asked.anchor, tile=3)
    loss, losses = Step(Learner(model, {}), {}, contrastive, world)(parts, seed)
    return _report(loss, losses, model)


def remembered(world: World, parts: Sequence[Batch]) -> dict[str, Any]:
    """The queues of a momentum network after a step."""
    model = Momentum(network=Toy(0), names=["picture", "words"], embedding=WIDTH, size=6).train()
    Step(Learner(model, {}), {}, Contrastive(), world)(parts)
    return {
        name: value.tolist() for name, value in model.named_buffers() if name.startswith(("queue", "filled"))
    }


def _report(loss: Tensor, losses: dict[str, Tensor], model: nn.Module) -> dict[str, Any]:
    gradients = {
        name: (torch.zeros_like(p) if p.grad is None else p.grad).tolist()
        for name, p in model.named_parameters()
    }
    return {
        "loss": float(loss.detach()),
        "losses": {name: float(value.detach()) for name, value in losses.items()},
        "gradients": gradients,
    }


def _one(rank: int, size: int, folder: str, meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    with exact():
        found = {
            f"{case}/{how}": stepped(case, World(rank, size), divisions()[how][rank], 5, 0.3)
            for case in CASES
            for how in ("ranks", "cached ranks")
        }
        for how in ("ranks", "cached ranks"):
            found[f"remembered/{how}"] = remembered(World(rank, size), divisions()[how][rank])
    (Path(folder) / f"rank-{rank}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


def main() -> None:
    size, folder = int(sys.argv[1]), sys.argv[2]
    with tempfile.TemporaryDirectory() as place:
        arguments = (size, folder, f"{place}/meeting")
        torch.multiprocessing.start_processes(_one, arguments, nprocs=size, start_method="fork")


if __name__ == "__main__":
    main()
