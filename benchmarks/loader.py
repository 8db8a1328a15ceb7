"""Loading: how fast one core decodes and prepares samples of the embedded world, against what training consumes.

Nothing is kept in a cache, no other process helps. Times are of the processor, so that a busy machine
changes them little.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import torch
from common import figure, figures, limit_threads, load, once, save, table
from step import KNOWN, Trainee

from sensorium.core import Modality
from sensorium.core.batch import Batch
from sensorium.data.collate import collate
from sensorium.data.item import Draws, prepare
from sensorium.data.sources.open import open_source
from sensorium.data.sources.source import Source
from sensorium.data.world import write_world

WORK = Path("runs/bench-world")
SAMPLES = 1_000
WARMUP = 2


def load_batch(source: Source, modalities: Mapping[str, Modality], rows: Sequence[int], seed: int) -> Batch:
    """What the trainer's loader does for one batch."""
    return collate([prepare(source[row], modalities, draws=Draws(), seed=seed) for row in rows], modalities)


def stages(source: Source, modalities: Mapping[str, Modality], rows: Sequence[int]) -> dict[str, float]:
    """Milliseconds a sample of each stage, one sample after the other as in training."""
    generator = torch.Generator().manual_seed(0)
    spent: dict[str, float] = defaultdict(float)

    def timed(stage: str, call: Callable[[], Any]) -> Any:
        start = process_time()
        found = call()
        spent[stage] += 1000 * (process_time() - start) / len(rows)
        return found

    items = []
    for row in rows:
        sample = timed("line of the manifest", partial(source.__getitem__, row))
        for segment in sample.segments:
            name, modality = segment.modality, modalities[segment.modality]
            raw = timed(f"{name}: read", partial(modality.load_value, segment.value))
            timed(f"{name}: prepare", partial(modality.prepare, raw, generator))
        items.append(prepare(sample, modalities, draws=Draws(), seed=row))
    timed("collate", partial(collate, items, modalities))
    return {name: round(value, 4) for name, value in sorted(spent.items(), key=lambda pair: -pair[1])}


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    world = write_world(arguments.work, SAMPLES, 0, test_samples=0, compositional_samples=0, clips=0.0)
    trainee = Trainee(arguments.recipe, arguments.overrides)
    modalities = trainee.modalities
    source = open_source(world.manifests["train"], modalities=modalities)
    modalities["text"].fit(s.value for sample in source for s in sample.segments if s.modality == "text")
    size, times = arguments.batch, arguments.times
    batches = [range(start, start + size) for start in range(0, size * 8, size)]
    loading, learning = [], []
    for turn in range(times + WARMUP):
        rows = batches[turn % len(batches)]
        loaded = once(partial(load_batch, source, modalities, rows, seed=turn))
        trained = once(partial(trainee.step, loaded.result))
        if turn >= WARMUP:
            loading.append(1000 * loaded.cpu / size)
            learning.append(1000 * trained.cpu / size)
    return {
        "recipe": arguments.recipe,
        "overrides": arguments.overrides,
        "batch": size,
        "loading, ms a sample": figure(loading),
        "training, ms a sample": figure(learning),
        "loaded samples per second and core": figure([1000 / value for value in loading]),
        "trained samples per second and core": figure([1000 / value for value in learning]),
        "loaded for each trained": figure([b / a for a, b in zip(loading, learning, strict=True)]),
        "stages, ms a sample": stages(source, modalities, range(4 * size)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="unified:tiny")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--times", type=int, default=15, help="measured batches")
    parser.add_argument("--work", type=Path, default=WORK, help="where the world is, or is written")
    parser.add_argument("--quick", action="store_true", help="3 batches; nothing is written")
    parser.add_argument("overrides", nargs="*", help="settings as path=value")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.times = 3
    limit_threads(1)
    before = load()
    found = measure(arguments)
    figures(f"loading {', '.join(KNOWN)} for {arguments.recipe}, CPU time of one core", found)
    table("stages of loading", ("stage", "ms a sample"), list(found["stages, ms a sample"].items()))
    if not arguments.quick:
        print(save("loader", found, load_before=before))


if __name__ == "__main__":
    main()
