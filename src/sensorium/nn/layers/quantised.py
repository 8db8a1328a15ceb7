"""Weights of 8 bits in place of 32: what writing token by token waits for is reading them.

Only weights are rounded, once, each row (output) with a scale of its own and symmetric around 0; what they are
multiplied with is not (unlike in LLM.int8, Dettmers et al. 2022, arXiv:2208.07339, whose scales these are).
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import TypeVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import CapabilityError, ConfigError
from ...core.int8 import Int8Matrix
from .fused import FusedLinear
from .linear import Linear

#: What reads media is computed once per prompt and over many rows: there is little to gain.
_KEPT = (r"^(towers|connectors)\.",)
_FORWARD = (Linear.forward, nn.Linear.forward, FusedLinear.forward, nn.Embedding.forward)

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class Int8Weight(nn.Module):
    """Holds one matrix as ``values`` and ``scale``; ``weight`` is both, and goes where ``core.product.linear`` takes a
    tensor.
    """

    values: Tensor
    scale: Tensor

    def __init__(self, *, matrix: Int8Matrix) -> None:
        super().__init__()
        self.register_buffer("values", matrix.values)
        self.register_buffer("scale", matrix.scale)
        self.training = False

    @property
    def weight(self) -> Int8Matrix:
        return Int8Matrix(self.values, self.scale)

    def train(self, mode: bool = True) -> Int8Weight:
        """Raises CapabilityError when asked to learn."""
        if mode:
            raise CapabilityError("weights of 8 bits do not learn: train the network first, then quantise it")
        super().train(mode)
        return self


class Int8Linear(Int8Weight):
    """A linear layer, or a fused one: ``x @ weight.T + bias``."""

    def __init__(self, *, matrix: Int8Matrix, bias: Float[Tensor, "e"] | None = None) -> None:
        super().__init__(matrix=matrix)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)

    def forward(self, x: Float[Tensor, "*m d"]) -> Float[Tensor, "*m e"]:
        return self.weight.linear(x, self.bias)


class Int8Embedding(Int8Weight):
    """A table of vectors. A head that is tied to it reads the same numbers."""

    def forward(self, ids: Int[Tensor, "*m"]) -> Float[Tensor, "*m d"]:
        return self.weight.rows(ids)


def quantise(network: AnyModule, *, keep: Sequence[str] | None = None) -> AnyModule:
    """A copy, to be used but not trained, whose linear layers and tables of embeddings are held in 8 bits.

    Those whose name matches one of ``keep`` (regular expressions, anywhere in the name) stay as they are; by default
    what reads media, under ``towers`` and ``connectors``. Raises ConfigError for a pattern that matches none of them,
    where nothing is left, and for weights that are not finite.
    """
    for name, module in _chosen(network, keep).items():
        if not bool(module.weight.isfinite().all()):
            raise ConfigError(f"{name}.weight: a number that is not finite cannot be held in 8 bits")
    return held_in_8_bits(network, keep)


def held_in_8_bits(network: AnyModule, keep: Sequence[str] | None = None) -> AnyModule:
    """``quantise`` for weights that nobody has looked at, such as those that are about to be read from a file."""
    matrices: dict[int, Int8Matrix] = {}
    made: dict[int, nn.Module] = {}
    for module in _chosen(network, keep).values():
        weight = module.weight
        if id(weight) not in matrices:  # one that is tied stays so
            matrices[id(weight)] = Int8Matrix.of(weight)
        made[id(module)] = _held(module, matrices[id(weight)])
    # What is known already is taken for the copy, wherever the original stands.
    return copy.deepcopy(network, made).requires_grad_(False).eval()


def _chosen(
    network: nn.Module, keep: Sequence[str] | None
) -> dict[str, nn.Linear | FusedLinear | nn.Embedding]:
    """What is replaced, by its first name. A class with a ``forward`` of its own may do more with its weights."""
    found = {
        name: module
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | FusedLinear | nn.Embedding) and type(module).forward in _FORWARD
    }
    for pattern in keep or ():
        try:
            matched = any(re.search(pattern, name) for name in found)
        except re.error as error:
            raise ConfigError(f"keep: {pattern!r} is not a regular expression: {error}") from None
        if not matched:
            raise ConfigError(f"keep: {pattern!r} matches no linear layer and no table of this network")
    patterns = _KEPT if keep is None else keep
    left = {n: module for n, module in found.items() if not any(re.search(p, n) for p in patterns)}
    if not left:
        raise ConfigError(
            f"nothing of this {type(network).__name__} is left to be held in 8 bits: of its linear layers and tables, "
            f"{len(found)} in number, all are kept ({', '.join(patterns)})"
        )
    return left


def _held(module: nn.Linear | FusedLinear | nn.Embedding, matrix: Int8Matrix) -> Int8Weight:
    if isinstance(module, nn.Embedding):
        return Int8Embedding(matrix=matrix)
    return Int8Linear(
        matrix=matrix, bias=module.whole_bias() if isinstance(module, FusedLinear) else module.bias
    )
