"""Two processes against one: the same global batches must give the same losses under DDP and FSDP2 (gloo, CPU).

Started with torchrun and the command line, as a user would; the losses are those of the run's log.
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

from common import load, save, table

from sensorium.data.world import write_world

TARGET = 1e-6  # of the relative difference: fp32 resolves no more than 1e-7 of a loss
RECIPE = f"{Path(__file__).parent / 'common' / 'recipes.py'}:with_adamw:tiny"
#: Everything is in it: pictures, clips, sounds, questions, masking, the contrastive loss over both processes.
OVERRIDES = ["training.loading.batch=16"]
WAYS = ("ddp", "fsdp")


def train(data: Path, out: Path, steps: int, distribution: str | None) -> list[float]:
    """The losses of each step, in one process, or in two that are distributed one way or the other."""
    program = str(Path(sys.executable).with_name("sensorium"))
    command = [program, "train", RECIPE, "--data", str(data), "--out", str(out)]
    command += ["--steps", str(steps), "--device", "cpu", *OVERRIDES]
    if distribution is not None:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        command = [*launcher, *command, f"training.distribution={distribution}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\n{' '.join(command)}: ended with {done.returncode}")
    return losses(out / "log.jsonl")


def losses(log: Path) -> list[float]:
    """The loss of each step in a run's log."""
    records = [json.loads(line) for line in log.read_text().splitlines()]
    return [record["loss"] for record in records if "loss" in record]


def difference(found: list[float], expected: list[float]) -> dict[str, float]:
    """The largest difference over the steps: as it is, and relative to the loss."""
    pairs = list(zip(found, expected, strict=True))
    return {
        "absolute": max(abs(a - b) for a, b in pairs),
        "relative": max(abs(a - b) / abs(b) for a, b in pairs),
    }


def measure(steps: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        world = write_world(
            place / "world", 128, 0, test_samples=0, compositional_samples=0, validation_samples=0
        )
        data = world.manifests["train"]
        alone = train(data, place / "alone", steps, None)
        ways = {way: train(data, place / way, steps, way) for way in WAYS}
    return {
        "steps": steps,
        "loss at first and last step": [alone[0], alone[-1]],
        **{way: difference(found, alone) for way, found in ways.items()},
        "target": TARGET,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--quick", action="store_true", help="2 steps; nothing is written")
    arguments = parser.parse_args()
    before = load()
    found = measure(2 if arguments.quick else arguments.steps)
    rows = [(way, f"{found[way]['absolute']:.1e}", f"{found[way]['relative']:.1e}") for way in WAYS]
    title = f"two processes against one, {found['steps']} steps (target {TARGET:.0e}, relative)"
    table(title, ("largest loss difference", "absolute", "relative"), rows)
    if not arguments.quick:
        print(save("distributed", found, load_before=before))


if __name__ == "__main__":
    main()
