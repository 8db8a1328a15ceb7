"""Predicting tokens: the next one, or the masked ones."""

from __future__ import annotations

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..core.batch import Batch
from ..core.outputs import Outputs, TokenPrediction
from .objective import Objective


def _cross_entropy(prediction: TokenPrediction, smoothing: float) -> Float[Tensor, ""]:
    losses = F.cross_entropy(
        prediction.logits.float(), prediction.target, reduction="none", label_smoothing=smoothing
    )
    return (losses * prediction.weight).sum()


class NextToken(Objective):
    """Cross-entropy of each target token given everything before it; ``stream`` holds the targets."""

    def __init__(self, *, weight: float = 1.0, stream: str = "text", smoothing: float = 0.0) -> None:
        self.weight, self.stream, self.smoothing = weight, stream, smoothing

    def counts(self, batch: Batch) -> dict[str, int]:
        stream = batch.streams[self.stream]
        return {"language": int((stream.lengths - 1)[stream.target & ~stream.corrupt].sum())}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        return {"language": _cross_entropy(outputs.language, self.smoothing)} if outputs.language else {}


class MaskedTokens(Objective):
    """Masked language modelling (BERT, Devlin et al. 2018, arXiv:1810.04805): mean over a segment's masked tokens."""

    def __init__(self, *, weight: float = 1.0, stream: str = "text") -> None:
        self.weight, self.stream = weight, stream

    def counts(self, batch: Batch) -> dict[str, int]:
        return {f"masked/{self.stream}": int(batch.streams[self.stream].corrupt.sum())}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        found = outputs.masked_tokens
        return {f"masked/{name}": _cross_entropy(prediction, 0.0) for name, prediction in found.items()}
