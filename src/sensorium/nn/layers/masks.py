"""Attention structure as data: who may look at whom, from small integers per token.

One rule covers causal, bidirectional, prefix, interleaved and packed attention (after the integer masks of
big_vision). Shape legend: b sequences, q queries, k keys.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from .packing import ragged_positions

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

T = TypeVar("T")


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

    def __or__(self, other: Rule) -> Rule:
        """What either allows."""
        return Rule(
            lambda b, q, k: self.allows(b, q, k) | other.allows(b, q, k),
            max(self.sequences, other.sequences),
            self.queries,
            self.keys,
            self.device,
        )


@dataclass(frozen=True)
class Mask:
    """What an attention layer needs to know of its tokens.

    ``rule``: who may look at whom (None: all at all); if ``causal``, only at what is not later besides; with ``near``,
    only at what is less than that many places away. ``also``: who may look at whom besides, whatever else holds.
    ``parts`` are the lengths of sequences that stand one after the
    other in one and do not see each other. ``bias`` is added to the products of all layers. ``places`` are those of
    the queries among the keys; by default, they are the last. ``positions`` are what turns queries and keys; by
    default, the same as their places. ``grid`` is the shape of the grid that the tokens lie on, for what depends on
    their distances.
    """

    rule: Rule | None = None
    causal: bool = False
    bias: Float[Tensor, "*b h q k"] | None = None
    positions: Int[Tensor, "#b q *axes"] | None = None
    grid: tuple[int, ...] | None = None
    places: Int[Tensor, "b q"] | None = None
    near: int | None = None
    also: Rule | None = None
    parts: tuple[int, ...] | None = None
    _joined: dict[tuple[int, int], Rule | None] = field(default_factory=dict, repr=False)
    _within: dict[int, Mask] = field(default_factory=dict, repr=False)
    _made: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def reach(self) -> int:
        """How many places the sequence takes up to the last query. Only where ``places`` are given."""
        assert self.places is not None
        return int(self.places.max()) + 1

    @cached_property
    def part(self) -> Mask:
        """What holds within each of ``parts``."""
        return Mask(causal=self.causal, near=self.near)

    def within(self, size: int | None) -> Mask:
        """The same for a layer whose tokens look less than ``size`` places away; made once for all layers."""
        if size is None or size == self.near:
            return self
        if size not in self._within:
            self._within[size] = replace(self, near=size, _joined={}, _within={})
        return self._within[size]

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What layers that are alike would each ``make`` of the tokens: made by the first, kept for the others."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def joined(self, queries: int, keys: int, device: torch.device) -> Rule | None:
        """One rule for all that holds; None where the kernel needs no more than to know whether it is ``causal``."""
        if (queries, keys) not in self._joined:
            self._joined[queries, keys] = self._join(queries, keys, device)
        return self._joined[queries, keys]

    def _join(self, queries: int, keys: int, device: torch.device) -> Rule | None:
        at = _last(queries, keys, device) if self.places is None else self.places
        sizes = len(at), queries, keys, device
        rules = [] if self.rule is None else [self.rule]
        if (near := self.near) is not None and keys > near:
            rules.append(Rule(lambda b, q, k: (at[_one(at, b), q] - k).abs() < near, *sizes))
        if self.parts is not None:
            part = torch.arange(len(self.parts), device=device).repeat_interleave(
                torch.tensor(self.parts, device=device)
            )
            rules.append(Rule(lambda b, q, k: part[q] == part[k], *sizes))
        if self.causal and (rules or self.places is not None or self.also is not None):
            rules.append(Rule(lambda b, q, k: k <= at[_one(at, b), q], *sizes))
        if not rules:
            return None
        whole = reduce(Rule.__and__, rules)
        return whole if self.also is None else whole | self.also

    def dense(
        self, queries: int, keys: int, like: Tensor, bias: Float[Tensor, "*b h q k"] | None = None
    ) -> tuple[Tensor | None, bool]:
        """What torch's kernel takes: a mask over heads (boolean, or additive in the type of ``like``), and
        whether it is to be causal by itself, which it can be only without a mask and without a past.
        """
        if self.bias is not None:
            bias = self.bias if bias is None else bias + self.bias
        whole = self.joined(queries, keys, like.device)
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


def sequences(lengths: Int[Tensor, "b"]) -> Mask:
    """Causal attention within each of several sequences that stand one after the other in one, each with positions of
    its own: only pairs of real tokens are computed.
    """
    positions = ragged_positions(lengths)[None]
    return Mask(causal=True, positions=positions, parts=tuple(lengths.tolist()))


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


def _last(queries: int, keys: int, device: torch.device) -> Int[Tensor, "1 q"]:
    return torch.arange(keys - queries, keys, device=device)[None]


def _one(at: Tensor, sequence: Tensor) -> Tensor | int:
    """Which row of ``at`` a sequence has: its own, or the one that all share."""
    return sequence if len(at) > 1 else 0
