"""Cross-entropy over a large vocabulary, of which the logits are never there as a whole, neither forward nor backward.

Logits are made for some rows at a time, turned into their probabilities where they are, and from these into the
gradients of rows and table before the next are made. A weighted sum of losses has its gradients when its value is
known, so that training makes logits once; where each token's loss is wanted by itself, its gradient is known only
backward, and logits are made a second time. The idea is that of Cut Cross-Entropy (Wijmans et al. 2024,
arXiv:2411.09009) and of the Liger kernels (Hsu et al. 2024, arXiv:2410.10989).

Legend: m tokens, v tokens of the vocabulary, d width; r some of the rows, c some of the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ..core.errors import ConfigError
from ..core.int8 import Int8Matrix
from ..core.product import fast, filled_up, product
from .tiles import cuts

#: Logits made at a time, in bytes: what the cache of a CPU holds, and what malloc keeps rather than fetch anew.
_BYTES = 24 << 20
_BYTES_ELSEWHERE = 512 << 20
#: Fewer rows at a time would spend too much on adding to the gradient of the table, and on calls of many threads.
_LEAST = 256


def linear_cross_entropy(
    rows: Float[Tensor, "m d"],
    table: Float[Tensor, "v d"] | Int8Matrix,
    target: Int[Tensor, "m"],
    *,
    weight: Float[Tensor, "m"] | None = None,
    bias: Float[Tensor, "v"] | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    smoothing: float = 0.0,
    chunk: int | None = None,
) -> Float[Tensor, ""]:
    """The sum of the cross-entropies of ``m`` tokens, each times its ``weight`` (1 without), in nats.

    Logits are ``scale * (rows @ table.T + bias)``, with ``softcap`` bent by ``softcap * tanh(logits / softcap)`` (Gemma
    2, arXiv:2408.00118). ``smoothing`` is the share of the truth that is spread over the vocabulary. They are made for
    ``chunk`` rows at a time, by default as many as are fast. In single precision at least; gradients are exact,
    and those that nobody needs are not computed. Raises ConfigError for a target that is no row of the table and for
    numbers out of range.
    """
    how = _How(scale, softcap, smoothing, chunk)
    rows, table, bias = _prepared(rows, table, bias, target)
    if weight is None:
        weight = torch.ones(len(rows), dtype=_wide(rows), device=rows.device)
    total: Tensor = _Total.apply(rows, table, bias, weight, target, how, torch.is_grad_enabled())
    return total


def token_log_probabilities(
    rows: Float[Tensor, "m d"],
    table: Float[Tensor, "v d"] | Int8Matrix,
    target: Int[Tensor, "m"],
    *,
    bias: Float[Tensor, "v"] | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
    chunk: int | None = None,
) -> Float[Tensor, "m"]:
    """The logarithm of the probability of each of ``m`` tokens; otherwise as ``linear_cross_entropy``."""
    how = _How(scale, softcap, 0.0, chunk)
    rows, table, bias = _prepared(rows, table, bias, target)
    losses: Tensor = _Each.apply(rows, table, bias, target, how)
    return -losses


@dataclass(frozen=True)
class _How:
    """What turns products into logits and logits into losses, and how many rows at a time."""

    scale: float
    softcap: float | None
    smoothing: float
    chunk: int | None

    def __post_init__(self) -> None:
        if self.softcap is not None and self.softcap <= 0:
            raise ConfigError(f"softcap must be above 0, found {self.softcap}")
        if not 0 <= self.smoothing < 1:
            raise ConfigError(f"smoothing must be at least 0 and below 1, found {self.smoothing}")
        if self.chunk is not None and self.chunk < 1:
            raise ConfigError(f"chunk must be at least 1, found {self.chunk}")


def rows_at_once(table: Float[Tensor, "v d"] | Int8Matrix) -> int:
    """For how many rows it is fast to make logits at a time."""
    return max(_budget(table) // (max(len(table), 1) * _wide(table).itemsize), _LEAST)


def _budget(table: Tensor | Int8Matrix) -> int:
    return _BYTES if table.device.type == "cpu" else _BYTES_ELSEWHERE


def _wide(tensor: Tensor | Int8Matrix) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _prepared(
    rows: Tensor, table: Tensor | Int8Matrix, bias: Tensor | None, target: Tensor
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Checked, written out, and in the type in which autocast, if it is on, would multiply them."""
    if isinstance(table, Int8Matrix):
        table = table.dense()
    if rows.ndim != 2 or table.ndim != 2 or rows.shape[1] != table.shape[1] or target.shape != rows.shape[:1]:
        raise ConfigError(
            "cross-entropy needs rows [m d], a table [v d] and targets [m], found "
            f"{list(rows.shape)}, {list(table.shape)} and {list(target.shape)}"
        )
    if len(target):
        low, high = (int(end) for end in target.aminmax())
        if low < 0 or high >= len(table):
            raise ConfigError(
                f"targets must be rows of the table, from 0 to {len(table) - 1}, found {low if low < 0 else high}"
            )
    kind = rows.device.type
    if not torch.is_autocast_enabled(kind):
        return rows, table, bias
    dtype = torch.get_autocast_dtype(kind)
    return rows.to(dtype), table.to(dtype), None if bias is None else bias.to(dtype)


@dataclass(frozen=True)
class _Found:
    """The loss of each token, and the gradients that were wanted."""

    losses: Float[Tensor, "m"]
    to_rows: Float[Tensor, "m d"] | None
    to_table: Float[Tensor, "v d"] | None
    to_bias: Float[Tensor, "v"] | None


def _run(
    rows: Tensor,
    table: Tensor,
    bias: Tensor | None,
    target: Tensor,
    how: _How,
    weight: Tensor | None = None,
    wanted: tuple[bool, ...] = (False, False, False),
) -> _Found:
    """Losses, and the ``wanted`` gradients (of rows, table and bias) of their sum with these weights."""
    count, wide = len(rows), _wide(rows)
    rows = filled_up(rows) if fast(rows, table, None) else rows
    target = F.pad(target, (0, len(rows) - count))
    losses = rows.new_empty(len(rows), dtype=wide)
    to_rows = torch.empty_like(rows) if wanted[0] else None
    to_table = torch.zeros_like(table, dtype=wide) if wanted[1] else None
    to_bias = torch.zeros_like(bias, dtype=wide) if wanted[2] and bias is not None else None
    factor = None
    if weight is not None:
        factor = F.pad(weight.to(wide) * how.scale, (0, len(rows) - count))[:, None]
    for r in cuts(len(rows), how.chunk or rows_at_once(table)):
        logits, slope = _logits(rows[r], table, bias, how, keep_slope=any(wanted))
        losses[r] = _losses_(logits, target[r], how.smoothing)
        if factor is None or not any(wanted):
            continue
        pull = _pull_(logits, slope, target[r], how.smoothing).to(rows.dtype)
        if to_rows is not None:
            to_rows[r] = product(pull, table.T) * factor[r]
        if to_table is not None:
            _add_(to_table, pull, (rows[r] * factor[r]).to(rows.dtype))
        if to_bias is not None:
            to_bias += factor[r, 0].to(pull.dtype) @ pull
    return _Found(
        losses[:count],
        None if to_rows is None else to_rows[:count],
        None if to_table is None else to_table.to(table.dtype),
        None if to_bias is None or bias is None else to_bias.to(bias.dtype),
    )


def _logits(
    rows: Float[Tensor, "r d"],
    table: Float[Tensor, "v d"],
    bias: Float[Tensor, "v"] | None,
    how: _How,
    keep_slope: bool,
) -> tuple[Float[Tensor, "r v"], Float[Tensor, "r v"] | None]:
    """Logits, and how much they move with what ``softcap`` bends."""
    logits = product(rows, table)
    if bias is not None:
        logits.add_(bias)
    logits = logits.to(_wide(rows))
    if how.scale != 1:
        logits.mul_(how.scale)
    if how.softcap is None:
        return logits, None
    logits.div_(how.softcap).tanh_()
    slope = logits.square().neg_().add_(1) if keep_slope else None
    return logits.mul_(how.softcap), slope


def _losses_(logits: Float[Tensor, "r v"], target: Int[Tensor, "r"], smoothing: float) -> Float[Tensor, "r"]:
    """The cross-entropies of logits, which become probabilities."""
    truth = logits.gather(1, target[:, None])[:, 0]
    if smoothing:
        truth = torch.lerp(truth, logits.mean(1), smoothing)
    top = logits.amax(1)
    torch.softmax(logits, 1, out=logits)
    # The likeliest token tells the logarithm of the sum of exponentials, without another pass of exponentials.
    return top - logits.amax(1).log_() - truth


def _pull_(
    probabilities: Float[Tensor, "r v"],
    slope: Float[Tensor, "r v"] | None,
    target: Int[Tensor, "r"],
    smoothing: float,
) -> Float[Tensor, "r v"]:
    """The gradients of losses at what was scaled, where the probabilities were."""
    if smoothing:
        probabilities.sub_(smoothing / probabilities.shape[1])
    right = probabilities.new_full((len(target), 1), smoothing - 1)
    probabilities.scatter_add_(1, target[:, None], right)
    return probabilities if slope is None else probabilities.mul_(slope)


def _add_(to_table: Float[Tensor, "v d"], pull: Float[Tensor, "r v"], rows: Float[Tensor, "r d"]) -> None:
    """Add ``pull.T @ rows``, by parts of the table that stay in the cache."""
    step = max(_budget(to_table) // 2 // max(to_table[0].nbytes, 1), 1)
    for c in cuts(len(to_table), step):
        to_table[c] += product(pull[:, c].T, rows.T)


class _Total(torch.autograd.Function):
    """Makes gradients forward, gives them away backward, and makes them anew if it is asked again."""

    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        table: Tensor,
        bias: Tensor | None,
        weight: Tensor,
        target: Tensor,
        how: _How,
        learning: bool,
    ) -> Tensor:
        wanted = ctx.needs_input_grad[:3] if learning else (False, False, False)
        found = _run(rows, table, bias, target, how, weight, wanted)
        if learning:
            ctx.save_for_backward(rows, table, bias, weight, target)
            ctx.how, ctx.found = how, found
        return (found.losses * weight).sum()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, table, bias, weight, target = ctx.saved_tensors
        found: _Found | None = ctx.found
        ctx.found = None
        if found is None:
            found = _run(rows, table, bias, target, ctx.how, weight, ctx.needs_input_grad[:3])
        made = (found.to_rows, found.to_table, found.to_bias)
        to_weight = (found.losses * gradient).to(weight.dtype) if ctx.needs_input_grad[3] else None
        return *(None if one is None else one.mul_(gradient) for one in made), to_weight, None, None, None


class _Each(torch.autograd.Function):
    """Makes gradients backward, when it is known how much each loss counts."""

    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, table: Tensor, bias: Tensor | None, target: Tensor, how: _How
    ) -> Tensor:
        ctx.save_for_backward(rows, table, bias, target)
        ctx.how = how
        return _run(rows, table, bias, target, how).losses

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        rows, table, bias, target = ctx.saved_tensors
        found = _run(rows, table, bias, target, ctx.how, gradient, ctx.needs_input_grad[:3])
        return found.to_rows, found.to_table, found.to_bias, None, None
