"""Telling hidden frames of a recording from one another by their learned codes (wav2vec 2.0)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..core.batch import Batch
from ..core.outputs import CodePrediction, Outputs
from .objective import Objective


class CodeContrast(Objective):
    """Cross-entropy, in nats, of the right code of a hidden frame among those of its distractors, by cosine over
    ``temperature``; mean over a segment's hidden frames (Baevski et al. 2020, arXiv:2006.11477).

    A distractor that has the same code as the frame does not count. (The reference compares the codes after a linear
    map, and misses some that rounding tells apart.)
    """

    def __init__(self, *, weight: float = 1.0, temperature: float = 0.1, stream: str = "audio") -> None:
        self.weight, self.temperature, self.stream = weight, temperature, stream

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"codes": int(batch.streams[self.stream].corrupt.sum())}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        found = outputs.codes
        return {"codes": (_losses(found, self.temperature) * found.weight).sum()} if found else {}


class CodeDiversity(Objective):
    """How far the codes are from being used equally often, from 0 to 1: ``1 - perplexity / number of codes``.

    The perplexity is that of the mean choice over the hidden frames of one forward pass, and is no sum over
    segments: as with BatchNorm, a batch in several micro-batches or on several ranks has one for each.
    """

    def __init__(self, *, weight: float = 0.1, stream: str = "audio") -> None:
        self.weight, self.stream = weight, stream

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"diversity": int(batch.streams[self.stream].corrupt.sum())}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        return {"diversity": _unused(outputs.codes)} if outputs.codes else {}


def _losses(found: CodePrediction, temperature: float) -> Float[Tensor, "m"]:
    """One loss per hidden frame, segment by segment, so that memory grows with one segment's square alone."""
    kind = torch.promote_types(found.predicted.dtype, torch.float32)
    predicted, codes = (F.normalize(x.to(kind), dim=-1) for x in (found.predicted, found.codes))
    sizes = found.lengths.tolist()
    parts = zip(*(x.split(sizes) for x in (predicted, codes, found.chosen, found.distractors)), strict=True)
    losses = []
    for seen, truth, chosen, others in parts:
        similarity = seen @ truth.T / temperature
        known = others.clamp(min=0)
        same = (chosen[:, None] == chosen[known]).all(-1)
        wrong = similarity.gather(1, known).masked_fill(same | (others < 0), float("-inf"))
        right = similarity.diagonal()
        losses.append(torch.cat([right[:, None], wrong], 1).logsumexp(1) - right)
    return torch.cat(losses) if losses else (predicted * codes).sum(1)


def _unused(found: CodePrediction) -> Float[Tensor, ""]:
    """The share of codes that a uniform choice would do without, times the weight of all frames."""
    weight = found.weight.sum()
    mean = (found.shares * found.weight[:, None, None]).sum(0) / weight.clamp(min=1e-12)
    # The logarithm of nothing counts as 0, and so does its gradient.
    entropy = -(mean * mean.clamp(min=torch.finfo(mean.dtype).tiny).log()).sum(-1)
    return weight * (1 - entropy.exp().sum() / mean.numel())
