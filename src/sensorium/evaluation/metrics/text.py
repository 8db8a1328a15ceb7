"""Comparing a generated text with the expected one: exact match and token F1, both after normalisation."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def normalise(text: str) -> str:
    """Lower case, without ASCII punctuation, English articles and extra spaces.

    As ``normalize_answer`` of SQuAD's evaluate-v1.1.py (Rajpurkar et al. 2016, arXiv:1606.05250), but a
    step that would leave nothing is not taken: the answers "A" and "-" are themselves.
    """
    lower = " ".join(text.lower().split())
    plain = " ".join(lower.translate(_PUNCTUATION).split()) or lower
    return " ".join(_ARTICLES.sub(" ", plain).split()) or plain


def exact_match(found: Sequence[str], expected: Sequence[str]) -> Float[Tensor, "n"]:
    """1 where the normalised texts are equal, else 0; its mean is SQuAD's "exact match"."""
    pairs = zip(found, expected, strict=True)
    return torch.tensor([float(normalise(a) == normalise(b)) for a, b in pairs], dtype=torch.float64)


def token_f1(found: Sequence[str], expected: Sequence[str]) -> Float[Tensor, "n"]:
    """F1 of the shared words of each pair, counted with repetition; its mean is SQuAD's "F1".

    Two empty texts score 1, one empty text 0, as in SQuAD 2.0.
    """
    return torch.tensor([_f1(a, b) for a, b in zip(found, expected, strict=True)], dtype=torch.float64)


def _f1(found: str, expected: str) -> float:
    left, right = normalise(found).split(), normalise(expected).split()
    if not left or not right:
        return float(left == right)
    shared = (Counter(left) & Counter(right)).total()
    return 2 * shared / (len(left) + len(right))
