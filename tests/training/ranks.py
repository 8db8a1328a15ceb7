"""Run by tests: ``ranks.py SIZE JOBS.json`` does the jobs, one after the other, in SIZE processes joined by gloo.

A job is the name of a function below and its arguments. Each rank writes what it found to RUN/rank-N.json.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing
from nn.toys import batch, model, sample
from training.kit import Poison, broken, centred, exact, objectives, samples, trainer

from sensorium.core import SensoriumError
from sensorium.core.state import persistent_buffers
from sensorium.nn.architectures.momentum import Momentum
from sensorium.objectives import Contrastive
from sensorium.training import checkpoint
from sensorium.training import trainer as module
from sensorium.training.distributed import World
from sensorium.training.trainer import Trainer

torch.set_num_threads(1)

#: Pictures and waves are rare: in most batches only one rank has any.
RARE = [sample(i, ("picture", "wave", "caption") if i % 6 == 0 else ("caption", "turn")) for i in range(17)]


def train(
    world: World,
    run: str,
    *,
    settings: dict[str, Any],
    items: str = "rare",
    contrastive: bool = True,
    only: list[str] | None = None,
    poison: list[str] | None = None,
    signal_at: int | None = None,
    full_at: list[int] | None = None,
    validate: bool = False,
    statistics: bool = False,
    momentum: bool = False,
) -> dict[str, Any]:
    """Train, perhaps with one thing that goes wrong, on rank 1 alone where that is possible."""
    chosen = {"rare": RARE, "broken": broken(4, 17), "mixed": samples(17)}[items]
    losses = {name: one for name, one in objectives().items() if only is None or name in only}
    network = centred() if statistics else model()
    if momentum:
        network = Momentum(network=network, names=["picture", "words"], embedding=8, size=9)
    if poison:
        network = Poison(network, set(poison), float("nan"))
    seen: list[float] = []

    def look(network):
        found = network(batch([sample(0), sample(1, ("caption",))]))
        seen.append(float(found.language.logits.detach().double().square().mean()))
        return {"figures": {"toy R@1": seen[-1]}, "examples": []}

    real_step, real_write = Trainer._step, checkpoint._write

    def step(self, load):
        if signal_at == load.step + 1 and world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return real_step(self, load)

    def write(directory, content):
        if content.state["step"] in (full_at or []):
            raise OSError(errno.ENOSPC, "No space left on device")
        real_write(directory, content)

    module.Trainer._step, checkpoint._write = step, write
    try:
        trained = trainer(
            Path(run),
            settings=settings,
            items=chosen,
            network=network,
            losses=losses,
            contrastive=Contrastive(weight=2.0) if contrastive else None,
            world=world,
            validate=look if validate else None,
        )
        outcome = trained.run()
    except SensoriumError as error:
        return {"error": type(error).__name__, "said": str(error)}
    finally:
        module.Trainer._step, checkpoint._write = real_step, real_write
    return {
        "finished": outcome.finished,
        "step": outcome.step,
        "broken": outcome.broken,
        "seen": seen,
        "sharded": sorted(name for name, p in trained.named.items() if hasattr(p, "device_mesh")),
        "names": sorted(trained.named),
        "buffers": {name: value.tolist() for name, value in persistent_buffers(trained.model).items()},
        "files": sorted(p.name for p in Path(run).iterdir()),
    }


def _one(rank: int, size: int, jobs: list[dict[str, Any]], meeting: str) -> None:
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
    with exact():
        for job in jobs:
            found = train(World(rank, size), **job)
            (Path(job["run"]) / f"rank-{rank}.json").write_text(json.dumps(found))
    if size > 1:
        dist.destroy_process_group()


def main() -> None:
    size, jobs = int(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
    with tempfile.TemporaryDirectory() as folder:
        arguments = (size, jobs, f"{folder}/meeting")
        if size == 1:
            _one(0, *arguments)
        else:
            torch.multiprocessing.start_processes(_one, arguments, nprocs=size, start_method="fork")


if __name__ == "__main__":
    main()
