"""Cached gradients: what a contrastive batch of any size needs beyond the memory of one micro-batch.

A step of CLIP ViT-B/32 over 1,024 pairs in micro-batches of 64 against a step over 64 pairs, and 32,768 pairs with
tiny towers. Pairs are random, as long as real captions, and made when they are asked for. Each step runs in a fresh
process; its peak is that of the whole process, weights and gradients included.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import limit_threads, load, once, save, table
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.core.modality import Modality
from sensorium.data.collate import collate
from sensorium.data.item import Item, Piece
from sensorium.objectives import Contrastive
from sensorium.recipes.clip import clip
from sensorium.training.distributed import World
from sensorium.training.step import Learner, Step

MICRO = 64
TARGET = 300  # megabytes beyond a plain batch
#: Size of the towers and number of pairs.
CASES = (("b32", MICRO), ("b32", 1024), ("tiny", 32_768))
QUICK = (("tiny", MICRO), ("tiny", 1024))


class Pairs(Sequence[Batch]):
    """Micro-batches of random pictures and captions of about 18 tokens, the same whenever they are asked for."""

    def __init__(self, count: int, modalities: dict[str, Modality], vocabulary: int) -> None:
        self.count, self.modalities, self.vocabulary = count, modalities, vocabulary

    def __len__(self) -> int:
        return -(-self.count // MICRO)

    def __getitem__(self, index: int) -> Batch:
        numbers = range(index * MICRO, min((index + 1) * MICRO, self.count))
        return collate([self._item(number) for number in numbers], self.modalities)

    def _item(self, number: int) -> Item:
        generator = torch.Generator().manual_seed(number)
        shape, length = (
            self.modalities["image"].blank().shape,
            int(torch.randint(12, 25, (), generator=generator)),
        )
        values: dict[str, Tensor] = {
            "image": torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
            "text": torch.randint(4, self.vocabulary, (length,), generator=generator),
        }
        pieces = [Piece(name, value, 0, True, False, False, False, number) for name, value in values.items()]
        return Item(f"{number}", number, tuple(pieces))


def step(size: str, count: int) -> dict[str, Any]:
    """For a process of its own: one step, and the most memory that the process ever held."""
    spec = clip(size)
    system = spec.build()
    modalities = {name: part.build() for name, part in system.modalities.items()}
    torch.manual_seed(0)
    pairs = Pairs(count, modalities, spec.model.towers["text"].embedding.vocabulary)
    run = Step(Learner(system.model.build().train(), {}), {}, Contrastive(), World())
    spent = once(lambda: run(pairs))
    (peak,) = re.findall(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return {
        "peak MB": int(peak) // 1024,
        "seconds": round(spent.wall, 1),
        "loss": round(float(spent.result[0]), 4),
    }


def in_a_process(size: str, count: int, threads: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", json.dumps([size, count]), "--threads", str(threads)]
    found: dict[str, Any] = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--quick", action="store_true", help="tiny towers and 1,024 pairs; nothing is written"
    )
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    if arguments.child:
        print(json.dumps(step(*json.loads(arguments.child))))
        return
    before = load()
    cases = QUICK if arguments.quick else CASES
    found = {
        f"clip:{size}, {count} pairs": in_a_process(size, count, arguments.threads) for size, count in cases
    }
    rows = [(name, *one.values()) for name, one in found.items()]
    table(f"one step, micro-batches of {MICRO}", ("", "peak MB", "seconds", "loss"), rows)
    plain, cached = list(found.values())[:2]
    beyond = cached["peak MB"] - plain["peak MB"]
    print(f"beyond a plain batch: {beyond} MB (target: under {TARGET})")
    if not arguments.quick:
        print(
            save(
                "cached_gradients",
                {"beyond a plain batch, MB": beyond, "target": TARGET} | found,
                load_before=before,
            )
        )


if __name__ == "__main__":
    main()
