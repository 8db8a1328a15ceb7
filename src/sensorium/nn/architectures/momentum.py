"""A network beside a slow copy of itself, which remembers what earlier batches looked like."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...core.batch import Batch
from ...core.errors import CapabilityError, ConfigError
from ...core.outputs import Outputs
from .network import Network
from .wrapper import Wrapper


class Momentum(Wrapper):
    """A network whose Outputs carry, for each modality of ``names``, a queue of the last ``size`` vectors, each of
    ``embedding`` numbers, that its slow copy made: further negatives for the contrastive loss (MoCo, He et al. 2019,
    arXiv:1911.05722; between modalities: BriVL, Huo et al. 2021, arXiv:2103.06561).

    The copy follows by ``decay`` at each step, and has the running statistics of the moment. It and the queues are
    buffers: saved, but reached by no gradient.
    Unlike BriVL's, positives and the negatives of the batch itself are the network's own, so that both sides learn.
    Raises ConfigError for a size below 1 or a decay outside 0 to 1.
    """

    network: Network
    slow: Network
    filled: Tensor

    def __init__(
        self, *, network: Network, names: Sequence[str], embedding: int, size: int = 4096, decay: float = 0.99
    ) -> None:
        super().__init__()
        if size < 1 or not 0 <= decay <= 1:
            raise ConfigError(f"size must be at least 1 and decay from 0 to 1, found {size} and {decay}")
        self.network, self.names, self.decay, self.language = network, tuple(names), decay, network.language
        self.slow = _without_parameters(copy.deepcopy(network)).eval()
        for name in self.names:
            self.register_buffer(f"queue_{name}", torch.zeros(size, embedding))
        self.register_buffer("filled", torch.zeros(len(self.names), dtype=torch.long))

    def forward(self, batch: Batch, embed_only: bool = False) -> Outputs:
        """In training with ``queue`` and, in ``keys``, what is to be remembered of this batch."""
        outputs = self.network(batch, embed_only=embed_only)
        if not self.training:
            return cast(Outputs, outputs)
        with torch.no_grad():
            found = self.slow(batch, embed_only=True).embeddings
        queues = {}
        for name, filled in zip(self.names, self.filled.tolist(), strict=True):
            queue = self._queue(name)
            queues[name] = queue[len(queue) - filled :]
        return replace(outputs, queue=queues, keys={name: found[name].vectors for name in self.names})

    @torch.no_grad()
    def remember(self, keys: Mapping[str, Float[Tensor, "n e"]]) -> None:
        """Let the copy follow, and put the keys of the whole step, of all processes, at the end of the queues."""
        learnt, counted = dict(self.network.named_parameters()), dict(self.network.named_buffers())
        for name, slow in self.slow.named_buffers():
            if name in counted:
                slow.copy_(counted[name])
            elif hasattr(learnt[name], "full_tensor"):
                raise CapabilityError(
                    "a momentum copy cannot follow sharded weights: set distribution to ddp"
                )
            else:
                slow.lerp_(learnt[name], 1 - self.decay)
        for place, name in enumerate(self.names):
            queue = self._queue(name)
            queue.copy_(torch.cat([queue, keys[name].to(queue)])[-len(queue) :])
            self.filled[place] = min(int(self.filled[place]) + len(keys[name]), len(queue))

    def _queue(self, name: str) -> Tensor:
        """Oldest first; the newest are at the end."""
        return self.get_buffer(f"queue_{name}")

    @property
    def inner(self) -> Network:
        return self.network

    def train(self, mode: bool = True) -> Momentum:
        """The copy draws nothing at random."""
        super().train(mode)
        self.slow.eval()
        return self


def _without_parameters(module: Network) -> Network:
    """The module with a buffer of the same name in place of each parameter."""
    made: dict[nn.Parameter, Tensor] = {}
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False, remove_duplicate=False)):
            delattr(part, name)
            part.register_buffer(name, made.setdefault(parameter, parameter.detach()))
    return module
