"""Feed-forward layers, row by row: plain, gated, and one expert per kind of token.

Each is called with the ``kind`` of the tokens, which all but the experts ignore.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .activations import activation as by_name
from .fused import FusedLinear
from .linear import Linear, linear_then


class MLP(nn.Module):
    """Two linear layers around a nonlinearity (see ``activations``); ``dropout`` is that of the hidden layer."""

    def __init__(
        self,
        *,
        width: int,
        hidden: int,
        activation: str = "gelu_tanh",
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.up = Linear(width, hidden, bias=bias)
        self.activation = by_name(activation)
        self.dropout = nn.Dropout(dropout)
        self.down = Linear(hidden, width, bias=bias)

    def forward(self, x: Float[Tensor, "m d"], kind: Int[Tensor, "m"] | int = 0) -> Float[Tensor, "m d"]:
        hidden = linear_then(self.up, self.activation, x)
        return self.down(self.dropout(hidden))


class GatedMLP(nn.Module):
    """A gated linear unit: ``down(activation(gate(x)) * up(x))`` (Shazeer 2020, arXiv:2002.05202); ``dropout`` is that
    of the hidden layer.
    """

    def __init__(
        self,
        *,
        width: int,
        hidden: int,
        activation: str = "silu",
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.gate_up = FusedLinear(width=width, parts=[hidden, hidden], biased=[bias, bias])
        self.activation = by_name(activation)
        self.dropout = nn.Dropout(dropout)
        self.down = Linear(hidden, width, bias=bias)

    def forward(self, x: Float[Tensor, "m d"], kind: Int[Tensor, "m"] | int = 0) -> Float[Tensor, "m d"]:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(self.dropout(self.activation(gate) * up))


class ModalityExperts(nn.Module):
    """One feed-forward per kind of token, routed by the kind itself: hard, without a learned gate.

    The mixture of modality experts of VLMo (Bao et al. 2021, arXiv:2111.02358). ``kind`` is an integer for
    all rows or one per row, in ``range(experts)``. Every expert runs, if need be on no rows, so that all ranks agree.
    """

    def __init__(self, *, width: int, hidden: int, experts: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(MLP(width=width, hidden=hidden) for _ in range(experts))

    def forward(self, x: Float[Tensor, "m d"], kind: Int[Tensor, "m"] | int) -> Float[Tensor, "m d"]:
        if isinstance(kind, int):
            return self.experts[kind](x, kind)
        places = [(kind == index).nonzero()[:, 0] for index in range(len(self.experts))]
        rows = [
            expert(x[place], index)
            for index, (expert, place) in enumerate(zip(self.experts, places, strict=True))
        ]
        return torch.empty_like(x).index_copy(0, torch.cat(places), torch.cat(rows).to(x.dtype))
