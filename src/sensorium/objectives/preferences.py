"""Learning which of two answers is preferred, without a model of rewards.

Legend: p pairs of answers, m words in all.
"""

from __future__ import annotations

import abc

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ..core.batch import Batch
from ..core.errors import ConfigError
from ..core.outputs import Outputs, Preference
from .distillation import needed, same_shape, teacher_of
from .language import log_probabilities
from .objective import Objective


class Preferred(Objective):
    """A loss of how much likelier than its reference a model finds the preferred answer of a pair than the other: of
    the ``margin`` between the two logarithms of a ratio of probabilities. The reference is the model's teacher;
    ``reference_free`` does without.

    Pairs are those of ``Stream.pairs``, or of ``Stream.rivals`` where segments have branches. Raises ConfigError for a
    ``beta`` that is not above 0, and for outputs without a teacher's answers or with others.
    """

    def __init__(
        self, *, weight: float = 1.0, beta: float = 0.1, reference_free: bool = False, stream: str = "text"
    ) -> None:
        if not beta > 0:
            raise ConfigError(f"beta must be above 0, found {beta}")
        self.weight, self.beta = weight, beta
        self.reference_free, self.stream = reference_free, stream

    def counts(self, batch: Batch) -> dict[str, int]:
        stream = batch.streams[self.stream]
        if stream.branch is not None:
            return {"preferences": (int(stream.rivals().max()) + 1) // 2}
        return {"preferences": int((stream.pairs() >= 0).sum()) // 2}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        found = outputs.preferences
        if found is None:
            return {}
        margin = _preferred(found)
        if not self.reference_free:
            teacher = needed("preferences", "teacher", teacher_of(outputs, "preferences").preferences)
            same_shape("preferences", found.pair.shape, teacher.pair.shape)
            margin = margin - _preferred(teacher)
        return {"preferences": self.losses(margin).sum()}

    @abc.abstractmethod
    def losses(self, margin: Float[Tensor, "p"]) -> Float[Tensor, "p"]: ...


class Preferences(Preferred):
    """Direct preference optimisation: ``-log sigmoid(beta * margin)``, in nats per pair (DPO, Rafailov et al. 2023,
    arXiv:2305.18290). ``smoothing`` is how often the preferred answer is taken to be the worse (conservative DPO).

    Raises ConfigError for a smoothing outside 0 to 0.5, 0.5 excluded.
    """

    def __init__(
        self,
        *,
        weight: float = 1.0,
        beta: float = 0.1,
        smoothing: float = 0.0,
        reference_free: bool = False,
        stream: str = "text",
    ) -> None:
        super().__init__(weight=weight, beta=beta, reference_free=reference_free, stream=stream)
        if not 0 <= smoothing < 0.5:
            raise ConfigError(f"smoothing must be at least 0 and below 0.5, found {smoothing}")
        self.smoothing = smoothing

    def losses(self, margin: Float[Tensor, "p"]) -> Float[Tensor, "p"]:
        right, wrong = (-F.logsigmoid(sign * self.beta * margin) for sign in (1, -1))
        return (1 - self.smoothing) * right + self.smoothing * wrong


class IdentityPreferences(Preferred):
    """``(margin - 1 / (2 beta))**2``: the margin is to reach a bound rather than to grow (IPO, Azar et al. 2023,
    arXiv:2310.12036).
    """

    def losses(self, margin: Float[Tensor, "p"]) -> Float[Tensor, "p"]:
        return (margin - 1 / (2 * self.beta)).square()


def answers(found: Preference) -> tuple[Float[Tensor, "p"], Float[Tensor, "p"]]:
    """The logarithms of the probabilities of the preferred answers and of the others, in nats."""
    rows = (found.pair >= 0).nonzero()[:, 0]
    pair, rejected = found.pair[rows], found.rejected[rows]
    pairs = int(pair.max()) + 1 if len(pair) else 0
    each = log_probabilities(found.words.select(rows))
    sums = each.new_zeros(2 * pairs).index_add(0, 2 * pair + rejected, each).view(pairs, 2)
    return sums[:, 0], sums[:, 1]


def _preferred(found: Preference) -> Float[Tensor, "p"]:
    chosen, rejected = answers(found)
    return chosen - rejected
