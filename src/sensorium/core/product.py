"""The matrix product of a linear layer, by the faster of the two libraries that torch has for it on a CPU.

torch gives single-precision products to MKL, which on processors of AMD leaves half of the AVX-512 units unused;
oneDNN, which torch has for compiled code, does not. On such a processor products go to oneDNN, and in every other type
or place to torch's own choice. The choice depends on the processor alone, so that a run repeats its bits.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

_KERNELS = "128"
#: Multiplications below which the longer way to oneDNN costs more than it saves, and the size of a matrix from which
#: reading it is what takes the time, at which oneDNN is the faster even for one vector.
_WORTH, _LARGE = 1 << 21, 1 << 18


class Matrix(Protocol):
    """A weight that is held in another way than number by number, and knows its own products."""

    def linear(
        self, x: Float[Tensor, "*m d"], bias: Float[Tensor, "e"] | None = None
    ) -> Float[Tensor, "*m e"]: ...


def linear(
    x: Float[Tensor, "*m d"], weight: Float[Tensor, "e d"] | Matrix, bias: Float[Tensor, "e"] | None = None
) -> Float[Tensor, "*m e"]:
    """``x @ weight.T + bias``."""
    if not isinstance(weight, Tensor):
        return weight.linear(x, bias)
    if not fast(x, weight, bias):
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.shape[-1])
    needed = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (x, weight, bias)
    )
    y = _Linear.apply(rows, weight, bias) if needed else one_dnn(rows, weight, bias)
    return y.view(*x.shape[:-1], y.shape[-1])


def product(a: Float[Tensor, "m d"], b: Float[Tensor, "n d"]) -> Float[Tensor, "m n"]:
    """``a @ b.T``, without a gradient of its own: for use inside one's own backward passes."""
    return one_dnn(a, b, None) if fast(a, b, None) else a @ b.T


def products(a: Float[Tensor, "n m d"], b: Float[Tensor, "n e d"]) -> Float[Tensor, "n m e"]:
    """``a @ b.T`` for each of ``n`` pairs, without a gradient of its own."""
    if not fast(a, b, None):
        return a @ b.mT
    return torch.stack([one_dnn(one, other, None) for one, other in zip(a, b, strict=True)])


class _Linear(torch.autograd.Function):
    """All three products of a linear layer by oneDNN.

    It prepares a kernel for every number of rows anew (3 ms, and a megabyte), and batches of real tokens have another
    number each: rows of zeros fill it up to one of 16 numbers between powers of two.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        filled = filled_up(x)
        ctx.save_for_backward(filled, weight)
        return one_dnn(filled, weight, bias)[: len(x)]

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        for_x, for_weight, for_bias = ctx.needs_input_grad
        filled = filled_up(gradient.contiguous())
        return (
            one_dnn(filled, weight.T, None)[: len(gradient)] if for_x else None,
            one_dnn(filled.T, x.T, None) if for_weight else None,
            gradient.sum(0) if for_bias else None,
        )


def filled_up(rows: Float[Tensor, "m d"]) -> Float[Tensor, "n d"]:
    """With rows of zeros at the end, so that few numbers of rows occur."""
    step = 1 << max(len(rows).bit_length() - 5, 0)
    short = -len(rows) % step
    return F.pad(rows, (0, 0, 0, short)) if short else rows


def one_dnn(
    x: Float[Tensor, "m d"],
    weight: Float[Tensor, "e d"],
    bias: Float[Tensor, "e"] | None,
    activation: str = "none",
    algorithm: str = "",
) -> Float[Tensor, "m e"]:
    """``activation(x @ weight.T + bias)`` by oneDNN, in its names, where ``fast`` says so; without a gradient."""
    return torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], algorithm)


def fast(x: Tensor, weight: Tensor, bias: Tensor | None) -> bool:
    """Whether oneDNN is the faster choice here, and can be used."""
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and (bias is None or bias.dtype == torch.float32)
        and x.numel() > 0  # of nothing, oneDNN has no product
        and (x.numel() * weight.shape[0] >= _WORTH or weight.numel() >= _LARGE)
        and type(x) in (Tensor, nn.Parameter)
        and type(weight) in (Tensor, nn.Parameter)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and one_dnn_is_faster()
    )


@cache
def one_dnn_is_faster(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether this is a processor of AMD with AVX-512, and this torch has oneDNN.

    If so, oneDNN is told to keep fewer kernels than the thousand it would, unless the environment says how many.
    """
    faster = (
        torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and cpuinfo.is_file()
        and "AuthenticAMD" in cpuinfo.read_text()
    )
    if faster:
        for kept in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
            os.environ.setdefault(kept, _KERNELS)
    return faster
