"""Reading a transcript off the logits of frames."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor


def best_path(logits: Float[Tensor, "m vocabulary"], lengths: Int[Tensor, "n"]) -> list[list[int]]:
    """The likeliest token of each frame, for recordings whose frames stand one after the other.

    With repeats as one and blanks left out, it is the greedy transcript of CTC (Graves et al. 2006).
    """
    return [part.tolist() for part in logits.argmax(-1).cpu().split(lengths.tolist())]
