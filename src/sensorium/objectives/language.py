"""Predicting tokens: the next one, or the masked ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..core.batch import Batch
from ..core.masking import masked_count
from ..core.outputs import Outputs, TokenPrediction, WordPrediction
from .linear_cross_entropy import linear_cross_entropy, token_log_probabilities
from .objective import Objective


def _cross_entropies(prediction: TokenPrediction, smoothing: float = 0.0) -> Float[Tensor, "m"]:
    """The loss of each token, in single precision at least."""
    logits = prediction.logits.to(torch.promote_types(prediction.logits.dtype, torch.float32))
    return F.cross_entropy(logits, prediction.target, reduction="none", label_smoothing=smoothing)


def log_probabilities(found: TokenPrediction | WordPrediction) -> Float[Tensor, "m"]:
    """That of each token that stood there, in nats."""
    if isinstance(found, TokenPrediction):
        return -_cross_entropies(found)
    return token_log_probabilities(
        found.rows, found.table, found.target, bias=found.bias, scale=found.scale, softcap=found.softcap
    )


class NextToken(Objective):
    """Cross-entropy of each target token given everything before it; ``stream`` holds the targets. Logits that are not
    made yet are made in chunks (``linear_cross_entropy``).
    """

    def __init__(self, *, weight: float = 1.0, stream: str = "text", smoothing: float = 0.0) -> None:
        self.weight, self.stream, self.smoothing = weight, stream, smoothing

    def counts(self, batch: Batch) -> dict[str, int]:
        stream = batch.streams[self.stream]
        if stream.learnt is not None:
            return {"language": int(stream.learnt[:, 1:].sum())}
        return {"language": int((stream.lengths - 1)[stream.target & ~stream.corrupt].sum())}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        found = outputs.language
        if found is None:
            return {}
        if isinstance(found, TokenPrediction):
            return {"language": (_cross_entropies(found, self.smoothing) * found.weight).sum()}
        return {
            "language": linear_cross_entropy(
                found.rows,
                found.table,
                found.target,
                weight=found.weight,
                bias=found.bias,
                scale=found.scale,
                softcap=found.softcap,
                smoothing=self.smoothing,
            )
        }


class MaskedTokens(Objective):
    """Masked language modelling (BERT, Devlin et al. 2018, arXiv:1810.04805).

    The mean over texts of the mean over a text's masked tokens; or with ``ratio``, which must be that of the
    network's masking, the mean over all masked tokens, as published.
    """

    def __init__(self, *, weight: float = 1.0, stream: str = "text", ratio: float | None = None) -> None:
        self.weight, self.stream, self.ratio = weight, stream, ratio

    def counts(self, batch: Batch) -> dict[str, int]:
        stream = batch.streams[self.stream]
        lengths = stream.lengths[stream.corrupt]
        count = len(lengths) if self.ratio is None else int(masked_count(lengths, self.ratio).sum())
        return {f"masked/{self.stream}": count}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        found = outputs.masked_tokens.get(self.stream)
        if found is None:
            return {}
        losses = _cross_entropies(found)
        return {f"masked/{self.stream}": (losses * found.weight if self.ratio is None else losses).sum()}
