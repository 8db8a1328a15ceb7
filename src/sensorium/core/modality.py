"""What a modality must offer: from a file to a checked value, to a tensor, and back to something to look at."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from .errors import CapabilityError
from .sample import Segment


class Modality(abc.ABC):
    """Reads, checks, prepares and shows one modality.

    The same object prepares for training, evaluation and serving. Everything here is deterministic:
    augmentation draws only from the generator that ``prepare`` is given.
    """

    #: Name of the modality: the field in a manifest and the keyword in ``Model.embed``.
    name: ClassVar[str]
    #: File name endings by which folder trees and shards recognise it, with the dot, in lower case.
    extensions: ClassVar[tuple[str, ...]] = ()
    #: Whether a bare string in a manifest is the value itself (text) rather than a path.
    inline: ClassVar[bool] = False

    @property
    def draws(self) -> bool:
        """Whether ``prepare`` draws from its generator; if not, what it returns may be kept and used again."""
        return True

    @abc.abstractmethod
    def read(self, source: Any) -> Any:
        """Decode ``source`` (path, bytes, or an in-memory value) into a raw value.

        Limits are checked before memory is spent. Raises DataError for anything unreadable.
        """

    @abc.abstractmethod
    def check(self, raw: Any) -> None:
        """Raise DataError if the decoded value cannot be used: empty, not finite, out of range."""

    @abc.abstractmethod
    def prepare(self, raw: Any, generator: torch.Generator | None = None) -> torch.Tensor:
        """The tensor that enters the encoder. Its first axis is the one along which items of a batch may differ.

        ``generator`` is given in training only; augmentation, if any, draws from it.
        """

    def layout(self, raw: Any) -> tuple[int, ...] | None:
        """What of a value the number of its prepared pieces (tiles, patches, frames) does not tell a network: their
        rows and columns, say. The same number of integers for every value; None where there is nothing to tell.
        """
        return None

    def undo(self, values: torch.Tensor) -> Any:
        """The raw value, to be looked at, that stands for prepared ``values``: what a network restored, say.

        CapabilityError where there is none.
        """
        raise CapabilityError(f"what was prepared of {self.name} cannot be looked at")

    @abc.abstractmethod
    def blank(self) -> torch.Tensor:
        """The shortest tensor of the shape and type that ``prepare`` returns; stands in where a batch has none."""

    @abc.abstractmethod
    def size(self, raw: Any) -> tuple[float, str]:
        """How large the raw value is, with the unit, for histograms: ``(1.5, "s")``, ``(64, "px")``."""

    @abc.abstractmethod
    def show(self, raw: Any) -> str:
        """A self-contained HTML fragment with which a person looks at, or listens to, the raw value."""

    def fit(self, raws: Iterable[Any]) -> None:  # noqa: B027
        """Learn what preparation needs from the training data (a tokenizer, a mean); default: nothing."""

    def save(self, directory: Path) -> None:  # noqa: B027
        """Write what ``fit`` learnt into ``directory``; default: nothing."""

    def publish(self, directory: Path) -> None:
        """Write what others need to prepare values alike, beside a public checkpoint; default: what ``save`` writes."""
        self.save(directory)

    def load(self, directory: Path) -> None:  # noqa: B027
        """Read back what ``save`` wrote; default: nothing."""

    def load_value(self, source: Any) -> Any:
        """``read`` then ``check``: the one way from a source to a usable raw value."""
        raw = self.read(source)
        self.check(raw)
        return raw


@dataclass(frozen=True)
class Medium:
    """What its modality made of one segment."""

    values: Tensor
    layout: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Asked:
    """A place of a medium among the words: the number of its segment, and what is asked about it there, as tokens of a
    second vocabulary.
    """

    segment: int
    values: Int[Tensor, "k"]


@dataclass(frozen=True)
class Composed:
    """A whole sample as one sequence of tokens, and which of them are learnt to be produced.

    Of several ``branch``es, numbered from 1 and one after the other, each goes on from the common beginning (0) and
    sees no other: independent questions about one picture. None: there is one. ``asked`` is for networks whose reading
    of a medium depends on what is asked, with an entry for each place of one, in their order.
    """

    values: Int[Tensor, "t"]
    learnt: Bool[Tensor, "t"]
    branch: Int[Tensor, "t"] | None = None
    asked: tuple[Asked, ...] | None = None


class Composer(Modality):
    """The words of a model that reads a whole sample as one sequence, with places held for all that is no text.

    A model has at most one. With it, a sample is prepared as a whole: see ``sensorium.data.item.prepare``.
    """

    @abc.abstractmethod
    def compose(
        self, segments: Sequence[Segment], media: Sequence[Medium | None], *, answer: bool = False
    ) -> Composed:
        """The sequence of a sample. ``media`` is what was prepared of each segment, None for those of text.

        ``answer`` leaves it open: an answer is to be written. Without it, a sample of which nothing is learnt is a
        DataError.
        """
