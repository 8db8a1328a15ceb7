"""What is discouraged or forbidden in each sequence while it grows: repetition, biased tokens, an end too early."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..core.errors import ConfigError, DataError
from .choose import forbidden, without_ngrams, without_presence, without_repeats
from .settings import Decoding


class Controls:
    """The controls of ``how`` that depend on more than the logits, for sequences that begin with ``prompts``.

    Applied in the order of the public tools: bias, repetition, n-grams, the earliest end. Raises ConfigError for a
    token that is not in the vocabulary.
    """

    def __init__(
        self,
        how: Decoding,
        prompts: Sequence[Sequence[int]],
        stop_ids: Collection[int],
        vocabulary: int,
        device: torch.device,
    ) -> None:
        for name, tokens in (("bias", how.bias), ("banned", how.banned), ("stop_ids", stop_ids)):
            beyond = [token for token in tokens if not 0 <= token < vocabulary]
            if beyond:
                raise ConfigError(f"{name} must hold tokens from 0 to {vocabulary - 1}, found {beyond[0]}")
        self.how, self.length = how, 0
        shape = len(prompts), vocabulary
        self._ends = torch.tensor(sorted(stop_ids), dtype=torch.long, device=device)
        self._bias = _bias(how, vocabulary, device) if how.bias or how.banned else None
        self._seen = _seen(prompts, vocabulary, device) if how.repetition_penalty != 1 else None
        counted = how.presence_penalty != 0 or how.frequency_penalty != 0
        self._counts = torch.zeros(shape, device=device) if counted else None
        self._sequences = [list(prompt) for prompt in prompts] if how.no_repeat_ngram else None

    def __call__(self, logits: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        """The logits of the next tokens, or log-probabilities, under all controls."""
        how = self.how
        if self._bias is not None:
            logits = logits + self._bias
        if self._seen is not None:
            logits = without_repeats(logits, self._seen, how.repetition_penalty)
        if self._counts is not None:
            logits = without_presence(logits, self._counts, how.presence_penalty, how.frequency_penalty)
        if self._sequences is not None:
            logits = without_ngrams(logits, self._sequences, how.no_repeat_ngram)
        if self.length < how.min_new_tokens:
            logits = forbidden(logits, self._ends)
        return logits

    def extend(self, ids: Int[Tensor, "b"]) -> None:
        """One more token in each sequence."""
        self.length += 1
        if self._seen is not None:
            self._seen.scatter_(1, ids[:, None], True)
        if self._counts is not None:
            self._counts.scatter_add_(1, ids[:, None], self._counts.new_ones(len(ids), 1))
        if self._sequences is not None:
            for sequence, token in zip(self._sequences, ids.tolist(), strict=True):
                sequence.append(token)

    def select(self, rows: Int[Tensor, "k"]) -> None:
        """Keep these sequences, in this order; one may come several times."""
        if self._seen is not None:
            self._seen = self._seen[rows]
        if self._counts is not None:
            self._counts = self._counts[rows]
        if self._sequences is not None:
            self._sequences = [list(self._sequences[row]) for row in rows.tolist()]


def _bias(how: Decoding, vocabulary: int, device: torch.device) -> Float[Tensor, "v"]:
    values = torch.zeros(vocabulary)
    for token, value in how.bias.items():
        values[token] = value
    values[list(how.banned)] = float("-inf")
    return values.to(device)


def _seen(prompts: Sequence[Sequence[int]], vocabulary: int, device: torch.device) -> Tensor:
    seen = torch.zeros(len(prompts), vocabulary, dtype=torch.bool)
    for row, prompt in enumerate(prompts):
        # Placeholders of media may lie beyond the tokens that can be written.
        seen[row, [token for token in prompt if 0 <= token < vocabulary]] = True
    return seen.to(device)


def nothing_left(logits: Float[Tensor, "v"], sequence: int, written: int) -> ConfigError | DataError:
    """Why a sequence of so many written tokens has no next one."""
    where = f"sequence {sequence} after {written} tokens"
    if bool(logits.isnan().any()):
        return DataError(
            f"{where}: expected logits that are numbers, found NaN: the network or what it read is damaged"
        )
    return ConfigError(
        f"{where}: expected a token to choose, but bias, banned, no_repeat_ngram and min_new_tokens forbid all"
    )
