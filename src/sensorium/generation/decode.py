"""Writing text token by token over caches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..core.batch import Batch
from ..core.errors import ConfigError

_MOST_TOKENS = 8192


class Writer(Protocol):
    """What decoding asks of a model: read a context once, then give logits token by token."""

    def prefill(
        self, batch: Batch, segment: Int[Tensor, "b"], turn: Int[Tensor, "b"], ordinal: Int[Tensor, "b"]
    ) -> Any: ...

    def decode(self, state: Any, ids: Int[Tensor, "b 1"]) -> Float[Tensor, "b v"]: ...


@dataclass(frozen=True)
class Decoding:
    """How the next token is chosen. ``temperature`` 0 takes the likeliest; otherwise it is drawn from the ``top_k``
    likeliest (0: all) with a generator of ``seed``.
    """

    max_new_tokens: int = 64
    temperature: float = 0.0
    top_k: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.max_new_tokens <= _MOST_TOKENS:
            raise ConfigError(f"max_new_tokens must be from 1 to {_MOST_TOKENS}, found {self.max_new_tokens}")
        if not 0 <= self.temperature < float("inf"):
            raise ConfigError(f"temperature must be a number from 0, found {self.temperature}")
        if self.top_k < 0:
            raise ConfigError(f"top_k must be at least 0, found {self.top_k}")


@dataclass(frozen=True)
class Places:
    """Where the written segment stands in each sample."""

    segment: Sequence[int]
    turn: Sequence[int]
    ordinal: Sequence[int]


@torch.no_grad()
def write(
    model: Writer, batch: Batch, places: Places, how: Decoding, *, bos: int, eos: int
) -> list[list[int]]:
    """Token ids for each sample, without bos and eos. A finished sample does not hold up or change the others."""
    device = batch.concept.device
    generator = torch.Generator(device).manual_seed(how.seed)
    as_tensor = {name: torch.tensor(value, device=device) for name, value in vars(places).items()}
    state = model.prefill(batch, **as_tensor)
    ids = torch.full((len(batch), 1), bos, device=device)
    done = torch.zeros(len(batch), dtype=torch.bool, device=device)
    written = []
    for _ in range(how.max_new_tokens):
        ids = _choose(model.decode(state, ids).float(), how, generator).masked_fill(done, eos)[:, None]
        written.append(ids)
        done = done | (ids[:, 0] == eos)
        if bool(done.all()):
            break
    rows = torch.cat(written, 1).tolist()
    return [row[: row.index(eos)] if eos in row else row for row in rows]


def _choose(logits: Float[Tensor, "b v"], how: Decoding, generator: torch.Generator) -> Int[Tensor, "b"]:
    if how.temperature == 0:
        return logits.argmax(1)
    if 0 < how.top_k < logits.shape[1]:
        least = logits.topk(how.top_k, dim=1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    weights = (logits / how.temperature).softmax(1)
    return torch.multinomial(weights, 1, generator=generator)[:, 0]
