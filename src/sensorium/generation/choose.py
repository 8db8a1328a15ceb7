"""What becomes of logits before a token is chosen, each control a function of its own.

All take and return logits of shape [b v], leave what they are given as it is, and forbid a token with minus infinity.
Their numbers are those of the public tools.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_NEVER = float("-inf")
_NUCLEUS = 1024  # tokens among which the nucleus is looked for first


def warmed(logits: Float[Tensor, "b v"], temperature: float) -> Float[Tensor, "b v"]:
    """Flatter above a temperature of 1, sharper below."""
    return logits if temperature == 1 else logits / temperature


def top_k(logits: Float[Tensor, "b v"], count: int) -> Float[Tensor, "b v"]:
    """The ``count`` likeliest, and those as likely as the last of them (Fan et al. 2018, arXiv:1805.04833)."""
    if not 0 < count < logits.shape[1]:
        return logits
    return logits.masked_fill(logits < logits.topk(count, dim=1).values[:, -1:], _NEVER)


def top_p(logits: Float[Tensor, "b v"], share: float) -> Float[Tensor, "b v"]:
    """The nucleus: the fewest tokens that together hold ``share`` of the probability, at least one (Holtzman et al.
    2019, arXiv:1904.09751).
    """
    if share >= 1:
        return logits
    if logits.shape[1] > _NUCLEUS:  # to sort a large vocabulary takes longer than all the rest
        best, places = logits.softmax(1).topk(_NUCLEUS, dim=1)
        likelier = best.cumsum(1) - best
        if bool((likelier[:, -1] >= share).all()):
            unlikely = likelier >= share
            unlikely[:, 0] = False
            outside = torch.ones_like(logits, dtype=torch.bool).scatter(1, places, unlikely)
            return logits.masked_fill(outside, _NEVER)
    ascending, order = logits.sort(dim=1)
    unlikely = ascending.softmax(1).cumsum(1) <= 1 - share
    unlikely[:, -1] = False
    return logits.masked_fill(torch.zeros_like(unlikely).scatter(1, order, unlikely), _NEVER)


def min_p(logits: Float[Tensor, "b v"], share: float) -> Float[Tensor, "b v"]:
    """Those at least ``share`` times as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082)."""
    if share <= 0:
        return logits
    likely = logits.softmax(1)
    best, place = likely.max(1, keepdim=True)
    return logits.masked_fill((likely < share * best).scatter(1, place, False), _NEVER)


def without_repeats(
    logits: Float[Tensor, "b v"], seen: Bool[Tensor, "b v"], penalty: float
) -> Float[Tensor, "b v"]:
    """Tokens ``seen`` in the prompt or the text count less by a factor (CTRL, Keskar et al. 2019, arXiv:1909.05858)."""
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def without_presence(
    logits: Float[Tensor, "b v"], counts: Float[Tensor, "b v"], presence: float, frequency: float
) -> Float[Tensor, "b v"]:
    """Tokens that the text has ``counts`` times lose ``presence`` once and ``frequency`` each time."""
    return logits - presence * (counts > 0) - frequency * counts


def forbidden(logits: Float[Tensor, "b v"], tokens: Int[Tensor, "k"]) -> Float[Tensor, "b v"]:
    """None of ``tokens``."""
    return logits.index_fill(1, tokens, _NEVER)


def without_ngrams(
    logits: Float[Tensor, "b v"], sequences: Sequence[Sequence[int]], size: int
) -> Float[Tensor, "b v"]:
    """No ``size`` tokens in a row that stand in a sequence already (Paulus et al. 2017, arXiv:1705.04304)."""
    vocabulary = logits.shape[1]
    pairs = [
        (row, token)
        for row, ids in enumerate(sequences)
        for token in completions(ids, size)
        if token < vocabulary
    ]
    if not pairs:
        return logits
    rows, tokens = torch.tensor(pairs, device=logits.device).unbind(1)
    return logits.index_put((rows, tokens), logits.new_tensor(_NEVER))


def completions(ids: Sequence[int], size: int) -> set[int]:
    """The tokens after which the last ``size`` ids would be ones that stand in ``ids`` already."""
    ids = list(ids)
    start = len(ids) - size + 1
    if start < 1:
        return set()
    if size == 1:
        return set(ids)
    # The last of the words before is looked for first: most places are then passed over quickly.
    before, last = ids[start:], ids[-1]
    return {
        ids[place + 1]
        for place in range(size - 2, len(ids) - 1)
        if ids[place] == last and ids[place - size + 2 : place + 1] == before
    }


def drawn(logits: Float[Tensor, "b v"], uniform: Float[Tensor, "b"]) -> Int[Tensor, "b"]:
    """One token of each row by its probability, from a uniform number in [0, 1); v where there is none to draw.

    The token at which the running sum of probabilities passes the number: in float64, for the sum over a large
    vocabulary is as large as its terms are small.
    """
    passed = logits.softmax(1).cumsum(1, dtype=torch.float64)
    return torch.searchsorted(passed, passed[:, -1:] * uniform[:, None].double(), right=True)[:, 0]


def likeliest(logits: Float[Tensor, "b v"]) -> Int[Tensor, "b"]:
    """The likeliest token of each row; v where all are forbidden or not numbers."""
    best, ids = logits.max(1)
    return ids.masked_fill(~(best > _NEVER), logits.shape[1])
