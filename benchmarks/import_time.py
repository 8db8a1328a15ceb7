"""Start: what importing sensorium takes beyond torch, which everyone who uses it imports anyway."""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import time
from typing import Any

from common import figure, figures, load, save

TORCH = "import torch"
PROGRAMS = {
    "python alone": "pass",
    "torch": TORCH,
    "sensorium": "import sensorium",
    "torch and sensorium.load": "import torch, sensorium; sensorium.load",
}
TARGET = 0.3  # seconds


def start(program: str) -> tuple[float, float]:
    """Seconds of a fresh process that runs ``program``: on the clock, and of the processor."""
    cpu = children()
    wall = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    return time.perf_counter() - wall, children() - cpu


def children() -> float:
    """CPU seconds of all processes that were started from here and have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def measure(times: int) -> dict[str, Any]:
    """The programs in turn, so that a busy moment falls on all of them; the first turn does not count."""
    wall: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    cpu: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for turn in range(times + 1):
        for name, program in PROGRAMS.items():
            spent = start(program)
            if turn:
                wall[name].append(spent[0])
                cpu[name].append(spent[1])
    found: dict[str, Any] = {}
    for kind, seconds in (("s", wall), ("CPU s", cpu)):
        found |= {f"{name}, {kind}": figure(values) for name, values in seconds.items()}
        pairs = zip(seconds["torch and sensorium.load"], seconds["torch"], strict=True)
        found[f"beyond torch, {kind}"] = figure([both - alone for both, alone in pairs])
    return found | {"target": TARGET}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=11)
    parser.add_argument("--quick", action="store_true", help="3 times; nothing is written")
    arguments = parser.parse_args()
    before = load()
    found = measure(3 if arguments.quick else arguments.times)
    figures(f"start (target beyond torch: {TARGET} s)", found)
    if not arguments.quick:
        print(save("import_time", found, load_before=before))


if __name__ == "__main__":
    main()
