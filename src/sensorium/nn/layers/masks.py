"""Attention structure as data: who may look at whom, from small integers per token.

One rule covers causal, bidirectional, prefix, interleaved and packed attention (after the integer masks of
big_vision). Shape legend: b sequences, q queries, k keys.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


@dataclass(frozen=True, eq=False)
class Rule:
    """Who may look at whom: ``allows`` says so for sequences, queries and keys given by their places, which broadcast.

    The one definition from which both forms are made that kernels take. ``sequences`` is 1 if all are alike.
    """

    allows: Callable[[Int[Tensor, "*p"], Int[Tensor, "*p"], Int[Tensor, "*p"]], Bool[Tensor, "*p"]]
    sequences: int
    queries: int
    keys: int
    device: torch.device

    @cached_property
    def dense(self) -> Bool[Tensor, "b q k"]:
        """True where a query may look at a key."""
        b, q, k = (torch.arange(n, device=self.device) for n in (self.sequences, self.queries, self.keys))
        allowed = self.allows(b[:, None, None], q[None, :, None], k[None, None, :])
        return allowed.expand(self.sequences, self.queries, self.keys)

    @cached_property
    def blocks(self) -> BlockMask:
        """The same for FlexAttention, which leaves out blocks of pairs that may not look at each other."""
        from torch.nn.attention.flex_attention import create_block_mask

        def allows(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return self.allows(b, q, k)

        sizes = self.sequences, None, self.queries, self.keys
        return create_block_mask(allows, *sizes, device=self.device, _compile=self.device.type == "cuda")

    def __and__(self, other: Rule) -> Rule:
        """What both allow."""
        return Rule(
            lambda b, q, k: self.allows(b, q, k) & other.allows(b, q, k),
            max(self.sequences, other.sequences),
            self.queries,
            self.keys,
            self.device,
        )


@dataclass(frozen=True)
class Mask:
    """What an attention layer needs to know of its tokens.

    ``rule``: who may look at whom (None: all at all); if ``causal``, only at what is not later besides. ``bias`` is
    added to the products of all layers. ``positions`` are the places of the queries, for what turns with them; by
    default they count from 0, or on from what a cache holds. ``grid`` is the shape of the grid that the tokens lie
    on, for what depends on their distances.
    """

    rule: Rule | None = None
    causal: bool = False
    bias: Float[Tensor, "*b h q k"] | None = None
    positions: Int[Tensor, "#b q *axes"] | None = None
    grid: tuple[int, ...] | None = None

    @property
    def allowed(self) -> Bool[Tensor, "b q k"] | None:
        """The rule and causality, for every pair of places; None where there is no rule."""
        return None if self.whole is None else self.whole.dense

    @cached_property
    def whole(self) -> Rule | None:
        """The rule joined with causality."""
        if self.rule is None or not self.causal:
            return self.rule
        return self.rule & _past(self.rule.queries, self.rule.keys, self.rule.device)

    def dense(
        self, queries: int, keys: int, like: Tensor, bias: Float[Tensor, "*b h q k"] | None = None
    ) -> tuple[Tensor | None, bool]:
        """What torch's kernel takes: a mask over heads (boolean, or additive in the type of ``like``), and
        whether it is to be causal by itself, which it can be only without a mask and without a past.
        """
        if self.bias is not None:
            bias = self.bias if bias is None else bias + self.bias
        whole = self.whole
        if whole is None and self.causal and queries > 1:  # the last token of all sees everything
            if bias is None and queries == keys:
                return None, True
            whole = _past(queries, keys, like.device)
        allowed = None if whole is None else whole.dense[:, None]
        if bias is None:
            return allowed, False
        bias = bias.to(like.dtype)
        return (bias if allowed is None else bias.masked_fill(~allowed, float("-inf"))), False


def everything() -> Mask:
    """Every token looks at every token."""
    return Mask()


def causal() -> Mask:
    """A token looks at itself and at what came before; right padding then needs no mask of its own."""
    return Mask(causal=True)


def padding(real: Bool[Tensor, "b k"], queries: int | None = None) -> Mask:
    """Every token looks at the real ones; where others look at them, ``queries`` is how many those are."""
    if bool(real.all()):
        return everything()
    sequences, keys = real.shape
    queries = keys if queries is None else queries
    return Mask(rule=Rule(lambda b, q, k: real[b, k], sequences, queries, keys, real.device))


def window(
    size: int, queries: int, keys: int, *, causal: bool = False, device: torch.device | None = None
) -> Mask:
    """A token looks at those less than ``size`` places away (Longformer, Beltagy et al. 2020, arXiv:2004.05150); the
    queries are the last of the keys.
    """

    def near(b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q + (keys - queries) - k).abs() < size

    return Mask(rule=Rule(near, 1, queries, keys, torch.device(device or "cpu")), causal=causal)


def prefix(lengths: Int[Tensor, "b"], length: int) -> Mask:
    """A token looks at the first ``lengths`` tokens of its sequence and at what is not later (UniLM, Dong et al.
    2019, arXiv:1905.03197).
    """
    rule = Rule(lambda b, q, k: (k < lengths[b]) | (k <= q), len(lengths), length, length, lengths.device)
    return Mask(rule=rule)


def packed(segments: Int[Tensor, "b t"], *, causal: bool = False) -> Mask:
    """A token looks at those of its own segment: several texts, or windows, in one sequence."""
    rule = _rule(lambda b, q, k: segments[b, q] == segments[b, k], segments, segments)
    return Mask(rule=rule, causal=causal)


@dataclass(frozen=True)
class Layout:
    """Integers that place each token of ``b`` sequences of interleaved segments.

    ``segment``: which segment of the sequence, -1 for padding. ``block``: a token looks at tokens of no later
    block; the tokens of a context segment share one block and those of a target segment have one each.
    ``turn``: turn 0 is the common context. ``target``: to be produced. ``hidden``: sees and is seen by its own
    segment only.
    """

    segment: Int[Tensor, "b t"]
    block: Int[Tensor, "b t"]
    turn: Int[Tensor, "b t"]
    target: Bool[Tensor, "b t"]
    hidden: Bool[Tensor, "b t"]

    def __getitem__(self, positions: slice) -> Layout:
        return Layout(**{f.name: getattr(self, f.name)[:, positions] for f in fields(self)})

    def append(self, other: Layout) -> Layout:
        """The layout of these tokens followed by others."""
        return Layout(
            **{f.name: torch.cat([getattr(self, f.name), getattr(other, f.name)], 1) for f in fields(self)}
        )


def interleaved(query: Layout, key: Layout) -> Mask:
    """Bidirectional over context, causal over targets; a turn sees itself and the context of turn 0."""

    def allows(b: Tensor, q: Tensor, k: Tensor) -> Tensor:
        same_segment = query.segment[b, q] == key.segment[b, k]
        in_turn = query.turn[b, q] == key.turn[b, k]
        shared = (key.turn[b, k] == 0) & ~key.target[b, k]
        apart = query.hidden[b, q] | key.hidden[b, k]
        allowed = (in_turn | shared) & (key.block[b, k] <= query.block[b, q]) & (same_segment | ~apart)
        real = key.segment[b, k] >= 0
        # A padding query looks at padding: a row without any key would be undefined.
        return (allowed & real) | ((query.segment[b, q] < 0) & ~real)

    return Mask(rule=_rule(allows, query.segment, key.segment))


def _rule(
    allows: Callable[[Tensor, Tensor, Tensor], Tensor],
    query: Shaped[Tensor, "b q"],
    key: Shaped[Tensor, "b k"],
) -> Rule:
    """A rule about the tokens that two tensors are about."""
    return Rule(allows, len(query), query.shape[1], key.shape[1], query.device)


def _past(queries: int, keys: int, device: torch.device) -> Rule:
    """Nothing later; the queries are the last of the keys."""
    return Rule(lambda b, q, k: k <= q + (keys - queries), 1, queries, keys, device)
