"""Sums over a matrix of similarities that is never there as a whole, neither forward nor backward.

The matrix ``scale * a b' + bias`` is made in square blocks that fit the cache. One product gives a block's part of
both the row and the column sums. Backward makes the blocks a second time and takes the gradients of ``a`` and ``b``
from one block of weights, so that memory is O(rows x (width + tile)) at the price of one product more. The idea is
that of online normalisation (Milakov and Gimelshein 2018, arXiv:1805.02867) and FlashAttention (Dao et al. 2022,
arXiv:2205.14135).

Legend: m rows, n columns, d width; r and c the rows and columns of one block.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..core.product import product

TILE = 1024

#: Which entries of a block count, given its rows and columns; the others are as if they were not there.
Keep = Callable[[slice, slice], Bool[Tensor, "r c"]]
Block = tuple[slice, slice, Float[Tensor, "r c"]]


def log_sums(
    a: Float[Tensor, "m d"],
    b: Float[Tensor, "n d"],
    scale: Float[Tensor, ""],
    *,
    tile: int = TILE,
    keep: Keep | None = None,
) -> Float[Tensor, "m"]:
    """The logarithm of the sum over each row of ``exp(scale * a b')``; ``-inf`` where a row has no entry."""
    return _LogSums.apply(a, b, scale, tile, keep, False)[0]  # type: ignore[no-any-return]


def log_sums_both(
    a: Float[Tensor, "m d"], b: Float[Tensor, "n d"], scale: Float[Tensor, ""], *, tile: int = TILE
) -> tuple[Float[Tensor, "m"], Float[Tensor, "n"]]:
    """The logarithms of the sums over each row and over each column of ``exp(scale * a b')``, in one pass."""
    return _LogSums.apply(a, b, scale, tile, None, True)  # type: ignore[no-any-return]


def softplus_sums(
    a: Float[Tensor, "m d"],
    b: Float[Tensor, "n d"],
    scale: Float[Tensor, ""],
    bias: Float[Tensor, ""],
    *,
    tile: int = TILE,
    keep: Keep | None = None,
) -> Float[Tensor, "m"]:
    """The sum over each row of ``log(1 + exp(scale * a b' + bias))``."""
    return _SoftplusSums.apply(a, b, scale, bias, tile, keep)  # type: ignore[no-any-return]


def blocks(
    a: Float[Tensor, "m d"],
    b: Float[Tensor, "n d"],
    scale: Float[Tensor, ""] | float = 1.0,
    bias: Float[Tensor, ""] | None = None,
    *,
    tile: int = TILE,
    keep: Keep | None = None,
) -> Iterator[Block]:
    """The blocks of ``scale * a b' + bias``, ``-inf`` where ``keep`` says no."""
    for r in cuts(len(a), tile):
        scaled = a[r] * scale
        for c in cuts(len(b), tile):
            logits = product(scaled, b[c])
            if bias is not None:
                logits.add_(bias)
            if keep is not None:
                logits.masked_fill_(~keep(r, c), -torch.inf)
            yield r, c, logits


def cuts(count: int, tile: int) -> list[slice]:
    return [slice(start, min(start + tile, count)) for start in range(0, count, tile)]


def exp_(x: Tensor) -> Tensor:
    """The exponential, in place; at least the least normal number, since below it is twenty times slower."""
    return x.clamp_(min=math.log(torch.finfo(x.dtype).tiny)).exp_()


def _log_sum(logits: Float[Tensor, "r c"], along: int) -> Tensor:
    top = logits.amax(along, keepdim=True)
    found = top + exp_(logits - top).sum(along, keepdim=True).log_()
    return torch.where(top.isneginf(), top, found).squeeze(along)


class _LogSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, tile: int, keep: Keep | None, both: bool
    ) -> tuple[Tensor, Tensor | None]:
        rows = a.new_full((len(a),), -torch.inf)
        columns = a.new_full((len(b),), -torch.inf) if both else None
        for r, c, logits in blocks(a, b, scale, tile=tile, keep=keep):
            torch.logaddexp(rows[r], _log_sum(logits, 1), out=rows[r])
            if columns is not None:
                torch.logaddexp(columns[c], _log_sum(logits, 0), out=columns[c])
        ctx.save_for_backward(a, b, scale, rows, columns)
        ctx.tile, ctx.keep = tile, keep
        ctx.set_materialize_grads(False)
        return rows, columns

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        a, b, scale, rows, columns = ctx.saved_tensors
        to_rows, to_columns = gradients
        rows = rows.masked_fill(rows.isinf(), 0)  # of such a row all entries are -inf
        if to_rows is None:
            to_rows = torch.zeros_like(rows)

        def weigh(r: slice, c: slice, logits: Tensor) -> Tensor:
            across = None
            if to_columns is not None:
                across = exp_(logits - columns[c]).mul_(to_columns[c])
            down = exp_(logits.sub_(rows[r, None])).mul_(to_rows[r, None])
            return down if across is None else down.add_(across)

        made = blocks(a, b, scale, tile=ctx.tile, keep=ctx.keep)
        found = pull_back(made, weigh, a, b, scale, ctx.tile, (*ctx.needs_input_grad[:3], False))
        return *found[:3], None, None, None


class _SoftplusSums(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, scale: Tensor, bias: Tensor, tile: int, keep: Keep | None
    ) -> Tensor:
        rows = a.new_zeros(len(a))
        for r, _, logits in blocks(a, b, scale, bias, tile=tile, keep=keep):
            rows[r] += F.softplus(logits, threshold=40.0).sum(1)  # the default, 20, is 2e-9 off
        ctx.save_for_backward(a, b, scale, bias)
        ctx.tile, ctx.keep = tile, keep
        return rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        a, b, scale, bias = ctx.saved_tensors
        to_rows = gradients[0]

        def weigh(r: slice, c: slice, logits: Tensor) -> Tensor:
            return logits.sigmoid_().mul_(to_rows[r, None])

        made = blocks(a, b, scale, bias, tile=ctx.tile, keep=ctx.keep)
        return *pull_back(made, weigh, a, b, scale, ctx.tile, ctx.needs_input_grad[:4]), None, None


def pull_back(
    made: Iterator[Block],
    weigh: Callable[[slice, slice, Tensor], Tensor],
    a: Float[Tensor, "m d"],
    b: Float[Tensor, "n d"],
    scale: Float[Tensor, ""],
    tile: int,
    wanted: tuple[bool, ...],
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """The gradients at ``a``, ``b``, scale and bias, those that are ``wanted``, where ``weigh`` turns a block into
    the gradient at its entries.
    """
    to_a = torch.zeros_like(a) if wanted[0] or wanted[2] else None
    to_b = torch.zeros_like(b) if wanted[1] else None
    to_scale, to_bias = a.new_zeros(()), a.new_zeros(())
    for r, c, logits in made:
        weights = weigh(r, c, logits)
        if to_a is not None:
            to_a[r] += product(weights, b[c].T)
        if to_b is not None:
            to_b[c] += product(weights.T, a[r].T)
        if wanted[3]:
            to_bias += weights.sum()
    if to_a is not None:
        for r in cuts(len(a), tile):
            to_scale += (to_a[r] * a[r]).sum()
        to_a.mul_(scale)
    if to_b is not None:
        to_b.mul_(scale)
    return (
        to_a if wanted[0] else None,
        to_b,
        to_scale if wanted[2] else None,
        to_bias if wanted[3] else None,
    )
