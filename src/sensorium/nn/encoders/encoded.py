"""What every encoder returns, and the interface it fulfils."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class Encoded:
    """Tokens of ``n`` segments, padded to ``t``, and what was masked from them.

    ``truth`` is what stood at each token before masking: patches, or token ids.
    """

    tokens: Float[Tensor, "n t d"]
    lengths: Int[Tensor, "n"]
    masked: Bool[Tensor, "n t"]
    truth: Float[Tensor, "n t p"] | Int[Tensor, "n t"]


class Encoder(nn.Module):
    """From prepared values to tokens. ``width`` is their size; ``causal`` says that a token may not see later ones.

    ``patch_width`` is the size of one masked patch, or None where the masked things are token ids.
    Segments with ``corrupt`` are masked by a draw from their own ``seed``. ``n`` may be 0.
    """

    width: int
    causal: bool = False
    patch_width: int | None = None

    def forward(
        self,
        values: Tensor,
        lengths: Int[Tensor, "n"],
        corrupt: Bool[Tensor, "n"],
        seed: Int[Tensor, "n"],
    ) -> Encoded:
        raise NotImplementedError
