"""Several linear maps of one input as one matrix product."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...core.errors import ConfigError
from ...core.product import linear


class FusedLinear(nn.Module):
    """Linear maps side by side: ``weight`` stacks those of all ``parts`` (output sizes), ``bias`` those of the
    parts that have one (None if none has).
    """

    def __init__(self, *, width: int, parts: Sequence[int], biased: Sequence[bool]) -> None:
        super().__init__()
        if len(parts) != len(biased):
            raise ConfigError(
                f"a fused linear map of {len(parts)} parts needs as many flags, found {len(biased)}"
            )
        self.parts, self.biased = list(parts), list(biased)
        self.weight = nn.Parameter(torch.empty(sum(parts), width))
        held = sum(size for size, has in zip(parts, biased, strict=True) if has)
        self.bias = nn.Parameter(torch.zeros(held)) if held else None
        nn.init.uniform_(self.weight, -1 / math.sqrt(width), 1 / math.sqrt(width))

    def forward(self, x: Float[Tensor, "*m d"]) -> Float[Tensor, "*m e"]:
        return linear(x, self.weight, self.whole_bias())

    def whole_bias(self) -> Float[Tensor, "e"] | None:
        """With zeros for the parts that have none; None if no part has one."""
        if self.bias is None or all(self.biased):
            return self.bias
        held = iter(self.bias.split([size for size, has in zip(self.parts, self.biased, strict=True) if has]))
        zeros = self.bias.new_zeros
        return torch.cat(
            [next(held) if has else zeros(size) for size, has in zip(self.parts, self.biased, strict=True)]
        )
