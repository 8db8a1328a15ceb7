"""Telling whether one text follows another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..core.batch import Batch
from ..core.outputs import Outputs
from .objective import Objective


class NextSentence(Objective):
    """Cross-entropy of whether the second text of a sample follows the first, over all samples with several texts
    (BERT, Devlin et al. 2018, arXiv:1810.04805).
    """

    def __init__(self, *, weight: float = 1.0, stream: str = "text") -> None:
        self.weight, self.stream = weight, stream

    def counts(self, batch: Batch) -> dict[str, int]:
        stream = batch.streams[self.stream]
        texts = torch.bincount(stream.owner[stream.content], minlength=1)
        return {f"next/{self.stream}": int((texts > 1).sum())}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        found = outputs.relations.get(self.stream)
        if found is None:
            return {}
        logits = found.logits.to(torch.promote_types(found.logits.dtype, torch.float32))
        return {f"next/{self.stream}": F.cross_entropy(logits, found.target, reduction="sum")}
