"""What decoding asks of a network: something that has read a prompt and takes one token after the other."""

from __future__ import annotations

from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor


class State(Protocol):
    """Sequences that are being written, over the caches of a network that has read their prompts.

    ``logits`` are those of the next token. ``history`` holds the ids of each prompt, for controls of repetition; it is
    read once, before the first token, and need not follow what is written.
    """

    @property
    def logits(self) -> Float[Tensor, "b v"]: ...

    @property
    def history(self) -> list[list[int]]: ...

    def extend(self, ids: Int[Tensor, "b"]) -> None:
        """Append one token to each sequence; ``logits`` are then those of the next."""

    def select(self, rows: Int[Tensor, "k"]) -> None:
        """Keep these sequences, in this order; one may come several times."""
