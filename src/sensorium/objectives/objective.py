"""What an objective is: a total and a count, so that parts of a batch add up to the whole."""

from __future__ import annotations

import abc

from jaxtyping import Float
from torch import Tensor

from ..core.batch import Batch
from ..core.outputs import Outputs


class Objective(abc.ABC):
    """A loss that is a sum over independent parts (tokens, segments) divided by their number.

    The number is known from the batch alone, before anything is computed. A step over several micro-batches
    or ranks first adds up the counts of all, then divides each total by the common count, which makes N
    micro-batches equal to one batch.
    """

    weight: float

    @abc.abstractmethod
    def counts(self, batch: Batch) -> dict[str, int]:
        """How many parts each named loss has in this batch."""

    @abc.abstractmethod
    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        """The sum over the parts of each named loss, in nats or squared units."""
