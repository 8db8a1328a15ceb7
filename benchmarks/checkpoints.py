"""Opening checkpoints of full size with random weights: time and peak memory against transformers.

Each measurement is a process of its own: it imports the library, then opens the checkpoint (network and weights, no
preprocessing) and reads every weight once, which is when mapped files come into memory. Time is that of opening and
reading; memory is the most that the process held beyond what it held after the import. Files are in the page cache for
both.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import figure, limit_threads, load, save, table

FAMILIES = {
    "CLIP ViT-B/32": ("CLIPModel", "CLIPConfig", {}),
    "SigLIP base": ("SiglipModel", "SiglipConfig", {}),
    "wav2vec 2.0 base": ("Wav2Vec2ForCTC", "Wav2Vec2Config", {}),
}

WHAT = ("seconds", "with every weight read", "of the processor", "MB")

MAKE = """
import sys, torch, transformers
cls, config, folder = sys.argv[1:]
torch.manual_seed(0)
getattr(transformers, cls)(getattr(transformers, config)()).save_pretrained(folder)
"""

OPEN = {
    "ours": """
from pathlib import Path
from sensorium.public import open_network
from sensorium.weights.family import Folder
from sensorium.recipes import find
import safetensors.torch
find.families()
def opened(folder): return open_network(Folder(Path(folder)))[1]
""",
    "transformers": """
import transformers
from transformers import {cls} as Model
def opened(folder): return Model.from_pretrained(folder)
""",
}

RUN = """
import ctypes, json, sys, time
import torch
{how}
def held(field):
    for line in open("/proc/self/status"):
        if line.startswith(field): return int(line.split()[1]) / 1024
open("/proc/self/clear_refs", "w").write("5")
before = held("VmRSS")
started, cpu = time.perf_counter(), time.process_time()
network = opened(sys.argv[1])
opened_in = time.perf_counter() - started
total = sum(float(p.detach().double().abs().sum() if p.numel() < 65536 else sum(c.double().abs().sum() for c in p.detach().flatten().split(65536))) for p in network.parameters())
spent, worked = time.perf_counter() - started, time.process_time() - cpu
print(json.dumps({{"seconds": opened_in, "with every weight read": spent, "of the processor": worked, "MB": held("VmHWM") - before, "sum": total}}))
"""


def run(code: str, *arguments: str) -> str:
    # The peers' folder, if there is one on the path, may hold a torchvision that does not fit a CPU.
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, env=clean)
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


def measure(name: str, times: int) -> dict[str, Any]:
    cls, config, _ = FAMILIES[name]
    found: dict[str, list[dict[str, float]]] = {side: [] for side in OPEN}
    with tempfile.TemporaryDirectory() as folder:
        run(MAKE, cls, config, folder)
        for turn in range(times):
            for side in list(OPEN)[:: 1 if turn % 2 == 0 else -1]:
                code = RUN.format(how=OPEN[side].format(cls=cls))
                found[side].append(json.loads(run(code, folder).splitlines()[-1]))
    sums = {side: rows[0]["sum"] for side, rows in found.items()}
    # Counted positions are no parameters of ours, and weight-normed convolutions are the same on both sides.
    assert abs(sums["ours"] - sums["transformers"]) <= 1e-6 * sums["transformers"], sums
    record: dict[str, Any] = {"sum of all weights": sums}
    for what in WHAT:
        mine, others = ([row[what] for row in found[side]] for side in OPEN)
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
    arguments = parser.parse_args()
    limit_threads(arguments.threads)
    before = load()
    names = list(FAMILIES)[: 1 if arguments.quick else None]
    found = {name: measure(name, 1 if arguments.quick else arguments.times) for name in names}
    rows = [
        (f"{name}: {what}", *(one[what][side]["value"] for side in ("ours", "transformers", "theirs / ours")))
        for name, one in found.items()
        for what in WHAT
    ]
    table("opening a checkpoint", ("", "ours", "transformers", "theirs / ours"), rows)
    if not arguments.quick:
        print(save("checkpoints", found, load_before=before))


if __name__ == "__main__":
    main()
