"""Reconstructing masked patches."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.batch import Batch
from ..core.outputs import Outputs, PatchPrediction
from .objective import Objective


class MaskedPatches(Objective):
    """Mean squared error of masked patch values, mean over a segment's masked patches (MAE, He et al. 2021,
    arXiv:2111.06377; SimMIM, arXiv:2111.09886). One loss per stream of real values or bytes.
    """

    def __init__(self, *, weight: float = 1.0) -> None:
        self.weight = weight

    def counts(self, batch: Batch) -> dict[str, int]:
        streams = {
            name: stream
            for name, stream in batch.streams.items()
            if stream.values.is_floating_point() or stream.values.dtype == torch.uint8
        }
        return {f"masked/{name}": int(stream.corrupt.sum()) for name, stream in streams.items()}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        return {f"masked/{name}": _error(found) for name, found in outputs.masked_patches.items()}


def _error(found: PatchPrediction) -> Float[Tensor, ""]:
    """In single precision at least."""
    difference = found.values - found.target
    wide = difference.to(torch.promote_types(difference.dtype, torch.float32))
    return (wide.square().mean(1) * found.weight).sum()
