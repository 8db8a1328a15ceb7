"""Random numbers that depend on a seed and a position only, never on what was drawn before.

What a model draws for a segment (which patches to mask) is then the same alone or in any batch, on any
rank and after any interruption.
"""

from __future__ import annotations

import hashlib

import torch
from jaxtyping import Float, Int
from torch import Tensor


def seed_of(*parts: int | str) -> int:
    """A 63-bit seed from any number of integers and strings."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value


_GOLDEN, _MIX1, _MIX2 = map(_signed, (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64, which torch shifts arithmetically."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def uniform(seed: Int[Tensor, "n"], count: int) -> Float[Tensor, "n count"]:
    """Uniform numbers in [0, 1): entry (i, j) is a function of ``seed[i]`` and ``j`` (splitmix64, Steele 2014)."""
    x = seed[:, None] + torch.arange(1, count + 1, device=seed.device) * _GOLDEN
    x = (x ^ _shift(x, 30)) * _MIX1
    x = (x ^ _shift(x, 27)) * _MIX2
    x = x ^ _shift(x, 31)
    return _shift(x, 40).float() / (1 << 24)
