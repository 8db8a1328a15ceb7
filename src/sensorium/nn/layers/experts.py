"""A mixture of experts: each token is sent to a few of many feed-forwards, by a router that learns.

Legend: m rows (tokens), d width, h hidden width of an expert, e experts, k of them chosen for each token.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ...core.errors import ConfigError
from ...core.outputs import Route
from ...core.product import linear
from .activations import activation as by_name
from .feed_forward import GatedMLP
from .linear import Linear

_heard: ContextVar[list[Route] | None] = ContextVar("routes", default=None)


@contextmanager
def routes() -> Iterator[list[Route]]:
    """Within, what the routers of all ``Experts`` decide is added to the list, layer by layer, for an objective that
    keeps experts busy. Elsewhere nothing is kept.
    """
    found: list[Route] = []
    token = _heard.set(found)
    try:
        yield found
    finally:
        _heard.reset(token)


class Experts(nn.Module):
    """Gated feed-forwards of which each token is sent to the ``chosen`` that a softmax over all ``experts`` likes best
    (Shazeer et al. 2017, arXiv:1701.06538; Qwen3, arXiv:2505.09388).

    What they make is added in the shares of that softmax, ``normalised`` to sum to one. An expert of ``shared`` hidden
    width serves every token, through a gate of its own (Qwen2-MoE, arXiv:2407.10671). No token is dropped: experts take
    as many as they are sent. Raises ConfigError for a choice that is not possible.
    """

    def __init__(
        self,
        *,
        width: int,
        hidden: int,
        experts: int,
        chosen: int,
        activation: str = "silu",
        normalised: bool = True,
        shared: int | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= chosen <= experts:
            raise ConfigError(
                f"of {experts} experts at least 1 and at most all can be chosen, found chosen={chosen}"
            )
        self.chosen, self.normalised = chosen, normalised
        self.router = Linear(width, experts, bias=False)
        self.gate_up = nn.Parameter(torch.empty(experts, 2 * hidden, width))
        self.down = nn.Parameter(torch.empty(experts, width, hidden))
        self.activation = by_name(activation)
        self.shared = self.shared_gate = None
        if shared is not None:
            self.shared = GatedMLP(width=width, hidden=shared, activation=activation)
            self.shared_gate = Linear(width, 1, bias=False)
        for weight in (self.gate_up, self.down):
            nn.init.normal_(weight, std=weight.shape[2] ** -0.5)

    def forward(self, x: Float[Tensor, "m d"], kind: Int[Tensor, "m"] | int = 0) -> Float[Tensor, "m d"]:
        shares, chosen = self._route(x)
        made = self._sorted(x, chosen)
        y = (made * shares.to(made.dtype)[..., None]).sum(1)
        if self.shared is None or self.shared_gate is None:
            return y
        return y + self.shared_gate(x).sigmoid() * self.shared(x)

    def _route(self, x: Float[Tensor, "m d"]) -> tuple[Float[Tensor, "m k"], Int[Tensor, "m k"]]:
        """The experts of each token and their shares, in single precision at least."""
        logits = self.router(x)
        shares = logits.softmax(-1, dtype=torch.promote_types(logits.dtype, torch.float32))
        shares, chosen = shares.topk(self.chosen, dim=-1)
        heard = _heard.get()
        if heard is not None:
            heard.append(Route(logits, chosen))
        return shares / shares.sum(-1, keepdim=True) if self.normalised else shares, chosen

    def _sorted(self, x: Float[Tensor, "m d"], chosen: Int[Tensor, "m k"]) -> Float[Tensor, "m k d"]:
        """What the chosen experts make of each token: rows are put in the order of experts, and back."""
        sent = chosen.flatten()
        order = sent.argsort(stable=True)
        counts = sent.bincount(minlength=len(self.gate_up)).tolist()
        counted = enumerate(x.index_select(0, order // self.chosen).split(counts))
        # One view of all weights: experts without tokens get a gradient of zeros. One runs in any case, if need be on
        # no rows, so that all ranks agree.
        gate_up, down = self.gate_up.unbind(), self.down.unbind()
        busy = [(index, rows) for index, rows in counted if len(rows)] or [(0, x[:0])]
        made = torch.cat([self._expert(rows, gate_up[index], down[index]) for index, rows in busy])
        back = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        return made.index_select(0, back).view(*chosen.shape, made.shape[1])

    def _expert(
        self, rows: Float[Tensor, "r d"], gate_up: Float[Tensor, "g d"], down: Float[Tensor, "d h"]
    ) -> Float[Tensor, "r d"]:
        gate, up = linear(rows, gate_up).chunk(2, dim=-1)
        return linear(self.activation(gate) * up, down)
