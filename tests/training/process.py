"""Run by tests in a process of its own: train the toy model in RUN, slowly, holding the run's lock."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import torch
from training.kit import samples, trainer

from sensorium.core import ConfigError
from sensorium.training.lock import locked
from sensorium.training.trainer import Trainer

torch.set_num_threads(1)


def main(run: Path, pause: float, workers: int) -> None:
    real = Trainer._step

    def step(self, load):
        time.sleep(pause)
        return real(self, load)

    Trainer._step = step
    settings = {"duration.steps": 40, "saving.steps": 100, "loading.workers": workers}
    with locked(run):
        outcome = trainer(run, items=samples(17), settings=settings).run()
    print(outcome.finished, outcome.step)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
    except ConfigError as error:
        sys.exit(str(error))
