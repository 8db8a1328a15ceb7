"""The demo: what `make demo` reached, from the run that it left, against what it is meant to reach."""

from __future__ import annotations

import argparse
import json
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


def shown(figure: dict[str, Any] | None) -> str:
    """A figure as a person reads it."""
    return "-" if figure is None else f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "demo")
    parser.add_argument("--minutes", type=int, default=6, choices=(6, 30), help="the targets to compare with")
    parser.add_argument("--quick", action="store_true", help="the same: nothing is run")
    options = parser.parse_args()
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
    name = "demo" if options.minutes == 6 else f"demo-{options.minutes}"
    print(save(name, facts | found, load_before=load()))


if __name__ == "__main__":
    main()
