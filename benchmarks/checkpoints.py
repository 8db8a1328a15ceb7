"""Opening checkpoints of full size with random weights: time and peak memory against transformers.

Each measurement is a process of its own: it imports its library, then opens the checkpoint (network and weights, no
preprocessing) and reads every weight once, which is when mapped files come into memory. Time is that of opening, and of
both; memory is the most that the process held beyond what it held after the import. Files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from common import figure, forget_peak, held, in_a_process, limit_threads, load, once, peak, save, table
from torch import nn

FAMILIES = {
    "CLIP ViT-B/32": ("CLIPModel", "CLIPConfig"),
    "SigLIP base": ("SiglipModel", "SiglipConfig"),
    "wav2vec 2.0 base": ("Wav2Vec2ForCTC", "Wav2Vec2Config"),
}
SIDES = ("ours", "transformers")
WHAT = ("seconds", "with every weight read", "of the processor", "MB")


def make(name: str, folder: str) -> None:
    """For a process of its own: write a checkpoint with random weights."""
    import transformers

    cls, config = FAMILIES[name]
    torch.manual_seed(0)
    getattr(transformers, cls)(getattr(transformers, config)()).save_pretrained(folder)


def opener(side: str, name: str) -> Callable[[str], nn.Module]:
    """What opens a folder, with all that it needs imported."""
    if side == "transformers":
        import transformers

        return getattr(transformers, FAMILIES[name][0]).from_pretrained
    import safetensors.torch  # noqa: F401  what opening would import

    from sensorium.public import open_network
    from sensorium.recipes import find
    from sensorium.weights.family import Folder

    find.families()
    return lambda folder: open_network(Folder(Path(folder)))[1]


def measured(side: str, name: str, folder: str) -> dict[str, float]:
    """For a process of its own: open a checkpoint and read its weights."""
    call = opener(side, name)
    forget_peak()
    before = held()
    opened = once(lambda: call(folder))
    reading = once(lambda: sum(magnitude(parameter) for parameter in opened.result.parameters()))
    return {
        "seconds": opened.wall,
        "with every weight read": opened.wall + reading.wall,
        "of the processor": opened.cpu + reading.cpu,
        "MB": peak() - before,
        "sum": reading.result,
    }


def magnitude(parameter: nn.Parameter) -> float:
    """The sum of absolute values, in pieces that need no memory worth counting."""
    return sum(float(piece.double().abs().sum()) for piece in parameter.detach().flatten().split(65_536))


def measure(name: str, times: int, threads: int) -> dict[str, Any]:
    def child(*given: str) -> Any:
        # A folder of peers on the path may hold a torchvision that does not fit a CPU.
        return in_a_process(__file__, given, threads, without=["PYTHONPATH"])

    found: dict[str, list[dict[str, float]]] = {side: [] for side in SIDES}
    with tempfile.TemporaryDirectory() as folder:
        child("make", name, folder)
        for turn in range(times):
            for side in SIDES[:: 1 if turn % 2 == 0 else -1]:
                found[side].append(child(side, name, folder))
    ours, theirs = (found[side][0]["sum"] for side in SIDES)
    assert abs(ours - theirs) <= 1e-6 * theirs, (ours, theirs)
    record: dict[str, Any] = {}
    for what in WHAT:
        mine, others = ([row[what] for row in found[side]] for side in SIDES)
        record[what] = {
            "ours": figure(mine),
            "transformers": figure(others),
            "theirs / ours": figure([other / own for own, other in zip(mine, others, strict=True)]),
        }
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--times", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="one run of CLIP; nothing is written")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    if arguments.child:
        what, name, folder = json.loads(arguments.child)
        print(json.dumps(make(name, folder) if what == "make" else measured(what, name, folder)))
        return
    before = load()
    names = list(FAMILIES)[: 1 if arguments.quick else None]
    found = {
        name: measure(name, 1 if arguments.quick else arguments.times, arguments.threads) for name in names
    }
    rows = [
        (f"{name}: {what}", *(one[what][side]["value"] for side in (*SIDES, "theirs / ours")))
        for name, one in found.items()
        for what in WHAT
    ]
    table("opening a checkpoint", ("", *SIDES, "theirs / ours"), rows)
    if not arguments.quick:
        print(save("checkpoints", found, load_before=before))


if __name__ == "__main__":
    main()
