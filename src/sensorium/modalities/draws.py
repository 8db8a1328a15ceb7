"""Random draws for augmentation, from the generator that ``prepare`` is given and nothing else."""

from __future__ import annotations

import torch


def integer(generator: torch.Generator, low: int, high: int) -> int:
    """A uniform integer from ``low`` to ``high``, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))
