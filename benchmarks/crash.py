"""Crashes: a run that is killed with SIGKILL again and again must end exactly like one that was left alone.

A small text-image model trains on the embedded world through the command line and saves every other step. It is
killed at seeded random moments: while it starts, within a step, and inside a save, which is caught by watching
for the temporary folder. Then weights, optimizer, average, losses, sample keys and the quarantine are compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import load, save, table
from safetensors.torch import load_file

from sensorium.data.world import write_world
from sensorium.training.checkpoint import Checkpoints

SETTINGS = ["trunk.depth=2", "model.alone=1", "training.loading.batch=8", "training.saving.steps=2"]
PATIENCE = 120  # seconds until something must have happened


@dataclass(frozen=True)
class Kill:
    """When: ``start`` (after ``delay`` s), ``step`` (``delay`` s after ``steps`` new ones) or ``save`` (inside one)."""

    kind: str
    steps: int
    delay: float


def plan(kills: int, seed: int) -> list[Kill]:
    """One in eight while starting, three inside a save, four within a step."""
    draw = random.Random(seed)
    found = []
    for index in range(kills):
        kind = ("save", "step", "step", "save", "step", "start", "save", "step")[index % 8]
        longest = {"start": 4.0, "step": 0.1, "save": 0.01}[kind]
        found.append(Kill(kind, draw.randint(1, 3), draw.uniform(0, longest)))
    return found


def write_data(folder: Path, samples: int) -> Path:
    """Pictures, captions and questions; every fiftieth picture is no picture."""
    splits = {"test_samples": 0, "compositional_samples": 0, "validation_samples": 0}
    manifest = write_world(folder, samples, 0, clips=0.0, **splits).manifests["train"]
    kept = []
    for number, line in enumerate(manifest.read_text().splitlines()):
        record = {
            name: value for name, value in json.loads(line).items() if name not in ("audio", "attributes")
        }
        if number % 50 == 25:
            (folder / record["image"]).write_bytes(b"no picture")
        kept.append(json.dumps(record) + "\n")
    data = folder / "pairs.jsonl"
    data.write_text("".join(kept))
    return data


@contextmanager
def training(data: Path, out: Path, steps: int, workers: int) -> Iterator[subprocess.Popen]:
    """The process that trains; what it says goes to a file beside the run."""
    command = [
        sys.executable,
        "-m",
        "sensorium",
        "train",
        "unified:tiny",
        "--data",
        str(data),
        "--out",
        str(out),
    ]
    command += ["--steps", str(steps), "--device", "cpu", *SETTINGS, f"training.loading.workers={workers}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with out.with_suffix(".txt").open("a") as said:
        process = subprocess.Popen(command, env=environment, stdout=said, stderr=said)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def steps_logged(run: Path) -> int:
    log = run / "log.jsonl"
    return log.read_bytes().count(b"\n") if log.is_file() else 0


def unfinished(run: Path) -> set[tuple[str, int]]:
    """The temporary folders of saves, by name and inode: a later save of the same step has another."""
    found = set()
    for folder in (run / "checkpoints").glob(".step-*.tmp"):
        with suppress(FileNotFoundError):  # the save has just ended
            found.add((folder.name, folder.stat().st_ino))
    return found


def wait_until(happened: Callable[[], bool], process: subprocess.Popen) -> bool:
    """False if the process ended before it happened."""
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None:
        if happened():
            return True
        if time.monotonic() > deadline:
            sys.exit(f"nothing happened for {PATIENCE} s")
        time.sleep(0.0005)
    return False


def kill_once(data: Path, run: Path, steps: int, workers: int, kill: Kill) -> dict[str, Any] | None:
    """Start or go on, and kill as planned; None if the run ended before."""
    newest = Checkpoints(run / "checkpoints").newest()[0]
    state = json.loads((newest / "state.json").read_text()) if newest is not None else {"step": 0, "log": 0}
    log, left = run / "log.jsonl", unfinished(run)
    size = log.stat().st_size if log.is_file() else 0
    with training(data, run, steps, workers) as process:
        if kill.kind != "start":
            # What was logged after the checkpoint is cut first; from there the log grows.
            happenings = [
                lambda: size == state["log"] or log.stat().st_size < size,
                lambda: steps_logged(run) >= state["step"] + kill.steps,
            ]
            if kill.kind == "save":
                happenings.append(lambda: bool(unfinished(run) - left))
            if not all(wait_until(happening, process) for happening in happenings):
                return None
        time.sleep(kill.delay)
        if process.poll() is not None:
            return None
        process.kill()
    newest, damaged = Checkpoints(run / "checkpoints").newest()
    return {
        "kind": kill.kind,
        "resumed": state["step"],
        "logged": steps_logged(run),
        "checkpoint": newest.name if newest is not None else "none",
        "cut": bool(unfinished(run) - left),
        "damaged": len(damaged),
    }


def finish(data: Path, run: Path, steps: int, workers: int) -> None:
    with training(data, run, steps, workers) as process:
        if process.wait():
            sys.exit(
                f"training ended with {process.returncode}:\n{run.with_suffix('.txt').read_text()[-4000:]}"
            )


def digest(run: Path) -> dict[str, str]:
    """What must be equal, each as one hash."""
    newest, _ = Checkpoints(run / "checkpoints").newest()
    if newest is None:
        sys.exit(f"{run} has no checkpoint")
    found = {}
    for file in sorted(newest.glob("*.safetensors")):
        tensors = hashlib.sha256()
        for name, tensor in sorted(load_file(file).items()):
            tensors.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            tensors.update(tensor.contiguous().numpy().tobytes())
        found[file.stem] = tensors.hexdigest()
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    steps = [record for record in log if "loss" in record]
    for name in ("loss", "losses", "gradient_norm", "keys"):
        values = [(record["step"], record[name]) for record in steps]
        found[name] = hashlib.sha256(json.dumps(values).encode()).hexdigest()
    found["quarantine"] = hashlib.sha256((run / "quarantine.jsonl").read_bytes()).hexdigest()
    return found


def measure(kills: int, seed: int, workers: int) -> dict[str, Any]:
    steps = 3 * kills + 12
    with tempfile.TemporaryDirectory() as folder:
        data = write_data(Path(folder) / "world", 200)
        alone, killed = Path(folder) / "alone", Path(folder) / "killed"
        finish(data, alone, steps, workers)
        moments = []
        for kill in plan(kills, seed):
            moment = kill_once(data, killed, steps, workers, kill)
            if moment is None:
                break
            moments.append(moment)
        finish(data, killed, steps, workers)
        expected, found = digest(alone), digest(killed)
        broken = len((alone / "quarantine.jsonl").read_text().splitlines())
    return {
        "steps": steps,
        "workers": workers,
        "quarantined": broken,
        "kills": moments,
        "equal": {name: found.get(name) == value for name, value in expected.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="3 kills; nothing is written")
    arguments = parser.parse_args()
    kills, before = 3 if arguments.quick else arguments.kills, load()
    found = measure(kills, arguments.seed, arguments.workers)
    table(
        f"{len(found['kills'])} kills in {found['steps']} steps",
        ("killed in", "resumed from", "steps logged", "newest checkpoint", "a save was cut", "damaged"),
        [
            (
                k["kind"],
                k["resumed"],
                k["logged"],
                k["checkpoint"],
                "yes" if k["cut"] else "",
                k["damaged"] or "",
            )
            for k in found["kills"]
        ],
    )
    rows = [(name, "equal" if same else "DIFFERENT") for name, same in found["equal"].items()]
    table("against the run that was left alone", ("", "sha256"), rows)
    cut = sum(k["cut"] for k in found["kills"])
    if (
        len(found["kills"]) < kills
        or not all(found["equal"].values())
        or any(k["damaged"] for k in found["kills"])
    ):
        sys.exit("the runs differ, or there were fewer kills than asked for")
    print(f"{kills} kills, {cut} of them inside a save: nothing was lost")
    if not arguments.quick:
        print(save("crash", found, load_before=before))


if __name__ == "__main__":
    main()
