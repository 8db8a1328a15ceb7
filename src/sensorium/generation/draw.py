"""Choosing one token of each sequence, the likeliest or by chance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..core.random import seed_of, uniform
from .choose import drawn, likeliest, min_p, top_p, warmed
from .settings import Decoding
from .written import TokenLogprob

_AHEAD = 64  # tokens whose random numbers are made at once


class Noise:
    """A uniform number for each token of each sequence: a function of the sequence's seed and the token's place."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._seeds, self._device = list(seeds), device
        self._block, self._ahead = -1, torch.empty(0)

    def at(self, place: int) -> Float[Tensor, "b"]:
        """Those of the token at ``place``."""
        block, within = divmod(place, _AHEAD)
        if block != self._block:
            seeds = torch.tensor([seed_of(seed, block) for seed in self._seeds], device=self._device)
            self._block, self._ahead = block, uniform(seeds, _AHEAD)
        return self._ahead[:, within]

    def select(self, rows: Sequence[int]) -> None:
        """Keep these sequences."""
        self._seeds = [self._seeds[row] for row in rows]
        self._ahead = self._ahead[list(rows)]


def next_tokens(
    logits: Float[Tensor, "b v"], how: Decoding, noise: Float[Tensor, "b"] | None
) -> Int[Tensor, "b"]:
    """The likeliest token of each sequence, or, by uniform numbers, a drawn one; v where there is none to choose."""
    if noise is None:
        return likeliest(logits)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    vocabulary, kept = logits.shape[1], None
    if 0 < how.top_k < vocabulary:  # what follows then looks at these alone
        logits, kept = logits.topk(how.top_k, dim=1)
    ids = drawn(min_p(top_p(warmed(logits, how.temperature), how.top_p), how.min_p), noise)
    if kept is None:
        return ids
    outside = kept.new_full((len(kept), 1), vocabulary)
    return torch.cat([kept, outside], 1).gather(1, ids[:, None])[:, 0]


def logprobs(logits: Float[Tensor, "b v"], ids: Int[Tensor, "b"], count: int) -> list[TokenLogprob]:
    """What the network thinks of tokens, and of the ``count`` likeliest in their places."""
    logs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1)
    values = logs.gather(1, ids[:, None])[:, 0].tolist()
    best, tokens = logs.topk(min(count, logs.shape[1]), dim=1)
    tops = [tuple(zip(*pair, strict=True)) for pair in zip(tokens.tolist(), best.tolist(), strict=True)]
    return [TokenLogprob(*one) for one in zip(ids.tolist(), values, tops, strict=True)]
