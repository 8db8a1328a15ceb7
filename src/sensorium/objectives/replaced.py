"""Telling replaced tokens from original ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..core.batch import Batch
from ..core.outputs import Outputs
from .objective import Objective


class ReplacedTokenDetection(Objective):
    """Binary cross-entropy of each token of the corrupt segments (ELECTRA, Clark et al. 2020, arXiv:2003.10555, whose
    ``weight`` is 50 beside the generator's masked tokens).
    """

    def __init__(self, *, weight: float = 50.0, stream: str = "text") -> None:
        self.weight, self.stream = weight, stream

    def counts(self, batch: Batch) -> dict[str, int]:
        stream = batch.streams[self.stream]
        return {f"replaced/{self.stream}": int(stream.lengths[stream.corrupt].sum())}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        found = outputs.replaced_tokens.get(self.stream)
        if found is None:
            return {}
        logits = found.logits.to(torch.promote_types(found.logits.dtype, torch.float32))
        loss = F.binary_cross_entropy_with_logits(logits, found.target.to(logits.dtype), reduction="sum")
        return {f"replaced/{self.stream}": loss}
