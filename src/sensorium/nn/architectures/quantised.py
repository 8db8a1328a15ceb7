"""A network with weights of 8 bits as the Spec of a System names it, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from ...core.batch import Batch
from ...core.errors import ConfigError
from ...core.outputs import TokenPrediction, WordPrediction
from ..layers.quantised import held_in_8_bits
from .network import Network

#: Tokens whose distributions are compared at once.
_ROWS = 64


class Quantised:
    """``network`` as ``quantise`` makes it with the same ``keep``: a Network of the same class, not of this one."""

    def __new__(cls, *, network: Network, keep: Sequence[str] | None = None) -> Network:  # type: ignore[misc]
        return held_in_8_bits(network, keep)


@dataclass(frozen=True)
class QuantisationLoss:
    """Over ``tokens`` that were predicted: the mean ``divergence`` (Kullback-Leibler, nats) of the quantised network's
    distributions from the original ones, the ``perplexity`` of both, and how often (0 to 1) they find the same token
    the likeliest.
    """

    tokens: int
    divergence: float
    perplexity: float
    quantised_perplexity: float
    agreement: float

    @property
    def ratio(self) -> float:
        """Of the perplexities: 1 where nothing is lost."""
        return self.quantised_perplexity / self.perplexity


@torch.no_grad()
def quantisation_loss(network: Network, quantised: Network, batches: Iterable[Batch]) -> QuantisationLoss:
    """What the words of ``batches`` lose. Raises ConfigError where no words are predicted."""
    sums = torch.zeros(5, dtype=torch.float64)
    for batch in batches:
        first, second = (_words(one, batch) for one in (network, quantised))
        for start in range(0, len(first.target), _ROWS):
            chosen = slice(start, start + _ROWS)
            p, q = (_log_probabilities(words, chosen) for words in (first, second))
            target = first.target[chosen, None]
            sums += torch.stack(
                [
                    torch.tensor(len(target), dtype=torch.float64),
                    (p.exp() * (p - q)).sum().cpu(),
                    -p.gather(1, target).sum().cpu(),
                    -q.gather(1, target).sum().cpu(),
                    (p.argmax(1) == q.argmax(1)).sum().double().cpu(),
                ]
            )
    count, divergence, first_nats, second_nats, same = sums.tolist()
    if not count:
        raise ConfigError("there is no word to predict in these batches")
    return QuantisationLoss(
        int(count),
        divergence / count,
        math.exp(first_nats / count),
        math.exp(second_nats / count),
        same / count,
    )


def _words(network: Network, batch: Batch) -> TokenPrediction | WordPrediction:
    found = network(batch).language
    if found is None:
        raise ConfigError(f"a {type(network).__name__} predicts no words")
    return found


def _log_probabilities(words: TokenPrediction | WordPrediction, chosen: slice) -> Float[Tensor, "m v"]:
    if isinstance(words, WordPrediction):
        logits = replace(words, rows=words.rows[chosen]).logits
    else:
        logits = words.logits[chosen]
    return logits.double().log_softmax(1)
