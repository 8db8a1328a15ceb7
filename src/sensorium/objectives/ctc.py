"""Text from sound without an alignment."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..core.batch import Batch
from ..core.errors import ConfigError
from ..core.outputs import Outputs, Transcription
from .objective import Objective


class CTC(Objective):
    """The surprise, in nats, at a transcript: minus the logarithm of the probability of all alignments together
    (connectionist temporal classification, Graves et al. 2006). ``stream`` holds the transcripts.

    ``reduction`` "sum": per transcript; "mean": per token of the transcript. Both are averaged over transcripts.
    A transcript too long for its recording is infinitely surprising; ``zero_infinity`` leaves it out.
    """

    def __init__(
        self,
        *,
        weight: float = 1.0,
        stream: str = "text",
        reduction: str = "sum",
        zero_infinity: bool = False,
    ) -> None:
        if reduction not in ("sum", "mean"):
            raise ConfigError(f"CTC.reduction is 'sum' or 'mean', found {reduction!r}")
        self.weight, self.stream = weight, stream
        self.reduction, self.zero_infinity = reduction, zero_infinity

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"ctc": int(batch.streams[self.stream].target.sum())}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        found = outputs.transcription
        if found is None:
            return {}
        if not len(found.lengths):
            return {"ctc": found.logits.sum()}
        losses = self._losses(found)
        if self.reduction == "mean":
            losses = losses / found.target_lengths.clamp(min=1)
        return {"ctc": losses.sum()}

    def _losses(self, found: Transcription) -> Float[Tensor, "n"]:
        kind = torch.promote_types(found.logits.dtype, torch.float32)
        rows = found.logits.to(kind).log_softmax(-1)
        with torch.backends.cudnn.flags(enabled=False):  # whose CTC takes short transcripts only
            return F.ctc_loss(
                pad_sequence(list(rows.split(found.lengths.tolist()))),
                found.target,
                found.lengths,
                found.target_lengths,
                blank=found.blank,
                reduction="none",
                zero_infinity=self.zero_infinity,
            )
