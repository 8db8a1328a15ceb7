"""Cached gradients: what a contrastive batch of any size needs beyond the memory of a plain batch of 64.

A step of CLIP ViT-B/32 over 1,024 pairs in micro-batches against a step over 64 pairs at once, and 32,768 pairs with
tiny towers. Pairs are random, as long as real captions, and made when they are asked for. Each step runs in a fresh
process; its peak is that of the whole process, weights and gradients included. With several micro-batches the
gradients of all weights (0.6 GB here) are there while activations are at their highest, in a plain step they are
not: micro-batches of 32 pay for that.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import torch
from common import in_a_process, limit_threads, load, once, peak, save, table
from torch import Tensor

from sensorium.core.batch import Batch
from sensorium.core.modality import Modality
from sensorium.data.collate import collate
from sensorium.data.item import Item, Piece
from sensorium.objectives import Contrastive
from sensorium.recipes.clip import clip
from sensorium.training.distributed import World
from sensorium.training.step import Learner, Step

TARGET = 300  # megabytes beyond a plain batch
#: Size of the towers, number of pairs, and of those in a micro-batch; the first is the plain batch.
CASES = (("b32", 64, 64), ("b32", 1024, 32), ("tiny", 32_768, 64))
QUICK = (("tiny", 64, 64), ("tiny", 1024, 32), ("tiny", 1024, 64))


class Pairs(Sequence[Batch]):
    """Micro-batches of random pictures and captions of about 18 tokens, the same whenever they are asked for."""

    def __init__(self, count: int, micro: int, modalities: dict[str, Modality], vocabulary: int) -> None:
        self.count, self.micro, self.modalities, self.vocabulary = count, micro, modalities, vocabulary

    def __len__(self) -> int:
        return -(-self.count // self.micro)

    def __getitem__(self, index: int) -> Batch:
        numbers = range(index * self.micro, min((index + 1) * self.micro, self.count))
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


def step(size: str, count: int, micro: int) -> dict[str, Any]:
    """For a process of its own: one step, and the most memory that the process ever held."""
    spec = clip(size)
    system = spec.build()
    modalities = {name: part.build() for name, part in system.modalities.items()}
    torch.manual_seed(0)
    pairs = Pairs(count, micro, modalities, spec.model.towers["text"].embedding.vocabulary)
    run = Step(Learner(system.model.build().train(), {}), {}, Contrastive(), World())
    spent = once(lambda: run(pairs))
    return {
        "peak MB": int(peak()),
        "seconds": round(spent.wall, 1),
        "loss": round(float(spent.result[0]), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--quick", action="store_true", help="tiny towers; nothing is written")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    if arguments.child:
        print(json.dumps(step(*json.loads(arguments.child))))
        return
    before = load()
    found = {}
    for size, count, micro in QUICK if arguments.quick else CASES:
        one = in_a_process(__file__, [size, count, micro], arguments.threads)
        found[f"clip:{size}, {count} pairs by {micro}"] = one
    plain = next(iter(found.values()))["peak MB"]
    for one in found.values():  # of the tiny towers it says little
        one["beyond a plain batch, MB"] = one["peak MB"] - plain
    columns = list(next(iter(found.values())))
    table("one step", ("", *columns), [(name, *one.values()) for name, one in found.items()])
    if not arguments.quick:
        print(save("cached_gradients", {"target, MB": TARGET} | found, load_before=before))


if __name__ == "__main__":
    main()
