"""Keys and values of the tokens already processed, so that decoding computes only the new one."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


class KVCache:
    """One attention layer's past. Grows by concatenation along the token axis."""

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    @property
    def length(self) -> int:
        """How many tokens are held."""
        return 0 if self.keys is None else self.keys.shape[2]

    def extend(
        self, keys: Float[Tensor, "b h t e"], values: Float[Tensor, "b h t e"]
    ) -> tuple[Float[Tensor, "b h k e"], Float[Tensor, "b h k e"]]:
        """Append new keys and values; returns all of them."""
        if self.keys is not None and self.values is not None:
            keys, values = torch.cat([self.keys, keys], 2), torch.cat([self.values, values], 2)
        self.keys, self.values = keys, values
        return keys, values
