"""One vector per segment from the features of its tokens, which are packed one segment after the other.

Legend: n segments, m real tokens in all, d width.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..layers.activations import activation as by_name
from ..layers.linear import Linear


class FirstToken(nn.Module):
    """The first token: a class token."""

    def forward(self, rows: Float[Tensor, "m d"], lengths: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        return rows[lengths.cumsum(0) - lengths]


class LastToken(nn.Module):
    """The last token: the end of a text that was read from left to right."""

    def forward(self, rows: Float[Tensor, "m d"], lengths: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        return rows[lengths.cumsum(0) - 1]


class MeanToken(nn.Module):
    """The mean of all tokens but the first ``skip``; zero where there are no more."""

    def __init__(self, *, skip: int = 0) -> None:
        super().__init__()
        self.skip = skip

    def forward(self, rows: Float[Tensor, "m d"], lengths: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        segment = torch.arange(len(lengths), device=lengths.device).repeat_interleave(lengths)
        if self.skip:
            place = torch.arange(len(rows), device=rows.device) - (lengths.cumsum(0) - lengths)[segment]
            rows, segment = rows[place >= self.skip], segment[place >= self.skip]
        total = rows.new_zeros(len(lengths), rows.shape[1]).index_add(0, segment, rows)
        return total / (lengths - self.skip).clamp(min=1)[:, None]


class Joined(nn.Module):
    """Several vectors of each segment as one: those of ``parts``, side by side."""

    def __init__(self, *, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, rows: Float[Tensor, "m d"], lengths: Int[Tensor, "n"]) -> Float[Tensor, "n p"]:
        return torch.cat([part(rows, lengths) for part in self.parts], dim=1)


class Pooling(nn.Module, abc.ABC):
    """One vector of ``width`` numbers per segment."""

    width: int

    @abc.abstractmethod
    def forward(self, rows: Float[Tensor, "m d"], lengths: Int[Tensor, "n"]) -> Float[Tensor, "n p"]: ...


class Pool(Pooling):
    """A choice of tokens, then optionally a norm and one linear map with a nonlinearity (the pooler of BERT).

    ``width`` is the size of what comes out; ``inner`` that of the tokens, where the linear map changes it.
    """

    def __init__(
        self,
        *,
        width: int,
        select: nn.Module,
        norm: nn.Module | None = None,
        dense: bool = False,
        activation: str = "tanh",
        inner: int | None = None,
    ) -> None:
        super().__init__()
        self.width, self.select = width, select
        self.norm = norm if norm is not None else nn.Identity()
        linear = Linear(width if inner is None else inner, width)
        self.dense = nn.Sequential(linear, by_name(activation)) if dense else nn.Identity()

    def forward(self, rows: Float[Tensor, "m d"], lengths: Int[Tensor, "n"]) -> Float[Tensor, "n d"]:
        return self.dense(self.norm(self.select(rows, lengths)))
