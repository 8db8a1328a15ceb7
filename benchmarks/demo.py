"""The demo: what `make demo` reached, from the run that it left, against what it is meant to reach."""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from common import load, save, table

ROOT = Path(__file__).parents[1]
#: The figure, its task and metric, and the targets of 6 and of 30 minutes.
WANTED = (
    ("image and text, R@1", "image-text", "R@1", 0.75, 0.92),
    ("sound and text, R@1", "audio-text", "R@1", 0.65, 0.88),
    ("sound and image, R@1", "audio-image", "R@1", 0.60, 0.85),
    ("captions, every attribute right", "caption", "together all attributes", 0.75, 0.92),
    ("... from the image alone", "caption", "image all attributes", None, None),
    ("... from the sound alone", "caption", "audio all attributes", None, None),
    ("answers right", "answer", "accuracy", 0.85, 0.95),
)


def read(run: Path) -> dict[str, dict[str, Any]]:
    """The headline figures of a demo by data set: value, 95 % interval and number."""
    files = {
        "test": run / "evaluation.json",
        "compositional": run / "evaluation/compositional/evaluation.json",
    }
    found: dict[str, dict[str, Any]] = {}
    for name, file in files.items():
        figures = json.loads(file.read_text())["figures"]
        found[name] = {label: figures.get(task, {}).get(metric) for label, task, metric, _, _ in WANTED}
    return found


def make(run: Path, minutes: int) -> dict[str, float]:
    """Run the demo as a person does: its time on the clock, and the memory of its largest process."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "sensorium", "demo", "--out", str(run), "--minutes", str(minutes)]
    subprocess.run(command, check=True)
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6  # the kernel counts in kB
    taken = (time.perf_counter() - started) / 60
    return {"minutes from nothing to report": round(taken, 2), "GB of the largest process": round(largest, 2)}


def shown(figure: dict[str, Any] | None) -> str:
    """A figure as a person reads it."""
    return "-" if figure is None else f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "demo")
    parser.add_argument("--minutes", type=int, default=6, choices=(6, 30), help="the targets to compare with")
    parser.add_argument(
        "--make", action="store_true", help="run the demo first, and measure its time and memory"
    )
    parser.add_argument("--quick", action="store_true", help="nothing is run or written")
    options = parser.parse_args()
    before = load()
    taken = make(options.run, options.minutes) if options.make and not options.quick else {}
    if not (options.run / "evaluation" / "compositional" / "evaluation.json").is_file():
        print(f"no finished demo in {options.run}: run `make demo` first")
        return
    found = read(options.run)
    rows = []
    for label, _, _, six, thirty in WANTED:
        target = six if options.minutes == 6 else thirty
        rows.append((label, shown(found["test"][label]), shown(found["compositional"][label]), target or ""))
    table(f"demo, {options.minutes} minutes", ("", "test", "compositional", "target"), rows)
    log = [json.loads(line) for line in (options.run / "log.jsonl").read_text().splitlines()]
    steps = [line for line in log if "loss" in line]
    facts = {"steps": steps[-1]["step"], "training seconds": steps[-1]["seconds"]}
    for label, value in (taken | facts).items():
        print(f"{label}: {value}")
    if not options.quick:
        name = "demo" if options.minutes == 6 else f"demo-{options.minutes}"
        print(save(name, taken | facts | found, load_before=before))


if __name__ == "__main__":
    main()
