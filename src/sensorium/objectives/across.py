"""Exchanges between processes that gradients can follow.

Every process computes the same global loss from its own part. Backward gives each the gradient of that loss at
its own rows, and its own share of the gradient at what all hold alike (temperature, weights): shares add up.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ..core.exchange import Exchange


def gather(rows: Float[Tensor, "m d"], mine: slice, exchange: Exchange) -> Float[Tensor, "n d"]:
    """The rows of all processes in rank order, of which these are ``mine``; backward adds up what each asks of them."""
    return rows if exchange.size == 1 else _Gather.apply(rows, mine, exchange)  # type: ignore[no-any-return]


def gather_fixed(values: Shaped[Tensor, "m ..."], exchange: Exchange) -> Shaped[Tensor, "n ..."]:
    """The rows of all processes in rank order, without gradients."""
    return torch.cat(exchange.gather_rows(values.detach())) if exchange.size > 1 else values.detach()


def log_sum(part: Float[Tensor, "n"], mine: slice, exchange: Exchange) -> Float[Tensor, "m"]:
    """The logarithm of the sum over processes of ``exp(part)``, for the entries that are ``mine``."""
    return part if exchange.size == 1 else _LogSum.apply(part, mine, exchange)  # type: ignore[no-any-return]


def total(part: Float[Tensor, ""], exchange: Exchange) -> Float[Tensor, ""]:
    """The sum over processes."""
    return part if exchange.size == 1 else _Total.apply(part, exchange)  # type: ignore[no-any-return]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, mine: slice, exchange: Exchange) -> Tensor:
        ctx.mine, ctx.exchange = mine, exchange
        return torch.cat(exchange.gather_rows(rows.contiguous()))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        everyone = ctx.exchange.sum(gradients[0].clone(memory_format=torch.contiguous_format))
        return everyone[ctx.mine].clone(), None, None


class _LogSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, mine: slice, exchange: Exchange) -> Tensor:
        whole = torch.cat(exchange.gather_rows(part[None])).logsumexp(0)
        ctx.exchange = exchange
        ctx.save_for_backward(part, whole)
        return whole[mine].clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        part, whole = ctx.saved_tensors
        everyone = torch.cat(ctx.exchange.gather_rows(gradients[0].contiguous()))
        return everyone * (part - whole).exp(), None, None


class _Total(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, exchange: Exchange) -> Tensor:
        return exchange.sum(part.clone())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return gradients[0], None
