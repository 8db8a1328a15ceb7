"""What evaluation asks of a model and of data: no more than this, so that anything can be evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from jaxtyping import Float
from torch import Tensor

from ..core import DataError, Modality, Sample
from ..core.outputs import Reconstruction

#: The modality that models complete and classify with.
TEXT = "text"

#: ``compare(caption, attributes)`` says which attributes (and ``all``) a caption states rightly.
Compare = Callable[[str, Mapping[str, Any]], Mapping[str, bool]]

#: ``progress(stage, done, total)``.
Progress = Callable[[str, int, int], None]


class Predictor(Protocol):
    """A model as evaluation sees it. Values are what the modality's ``read`` accepts, or already read.

    A model that cannot do one of these raises CapabilityError; the tasks that need it are then
    skipped, with that reason.
    """

    @property
    def modalities(self) -> Mapping[str, Modality]:
        """The modalities that the model knows, by name."""

    def embed(self, *, batch_size: int = 64, **values: Any) -> Float[Tensor, "n d"]:
        """Unit-length embeddings of the values of one modality, given by its name as the keyword."""

    def complete(
        self, samples: Sequence[Sample], *, max_new_tokens: int = 64, batch_size: int = 64
    ) -> list[str]:
        """The text that continues the non-target segments of each sample."""

    def classify(
        self, labels: Sequence[str], templates: Sequence[str], **values: Any
    ) -> Float[Tensor, "n labels"]:
        """Zero-shot probabilities; a class is the mean of the embeddings of its filled-in templates."""

    def reconstruct(self, *, batch_size: int = 64, **values: Any) -> list[Reconstruction]:
        """Values of one modality with a part hidden, and what the model restores of it."""


class Source(Protocol):
    """Data as evaluation sees it: a sequence of samples, and what was wrong with the rest."""

    @property
    def problems(self) -> Sequence[DataError]:
        """Items that could not be used."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample:
        """Raises DataError where the item is broken."""
