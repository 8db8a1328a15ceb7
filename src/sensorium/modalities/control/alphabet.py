"""Which token is what in a stream of texts, numbers and pictures, and which of them are actions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from ...core import ConfigError
from .bins import BINS, companded, from_bins, to_bins


@dataclass(frozen=True)
class Alphabet:
    """``texts`` tokens of words, of which the first 1,024 are whole numbers too, as in Gato (arXiv:2205.06175); then
    one for each bin of other numbers, one between what is seen and what is done, and one for each kind of
    ``pictures``, which holds the place of a row of theirs.
    """

    texts: int
    pictures: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.texts < BINS:
            raise ConfigError(f"there must be at least {BINS:,} tokens of words, found {self.texts}")

    @property
    def separator(self) -> int:
        """Comes between what is seen and what is done."""
        return self.texts + BINS

    @property
    def places(self) -> dict[str, int]:
        """The token that holds the place of one row, for each kind of pictures."""
        return {name: self.separator + 1 + index for index, name in enumerate(self.pictures)}

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return self.separator + 1 + len(self.pictures)

    def seen(self, values: Float[np.ndarray, "t k"] | Int[np.ndarray, "t k"]) -> Int[np.ndarray, "t k"]:
        """The tokens of observations: whole numbers as they are, others by the mu-law."""
        return values if values.dtype.kind == "i" else self.texts + to_bins(companded(values))

    def done(self, values: Float[np.ndarray, "t k"] | Int[np.ndarray, "t k"]) -> Int[np.ndarray, "t k"]:
        """The tokens of actions: whole numbers as they are, others from -1 to 1."""
        return values if values.dtype.kind == "i" else self.texts + to_bins(values)


@dataclass(frozen=True)
class Actions:
    """What can be done at a step: ``width`` numbers from -1 to 1, or so many of a number of ``choices``."""

    width: int = 1
    choices: int | None = None

    def __post_init__(self) -> None:
        if self.width < 1 or (self.choices is not None and not 1 <= self.choices <= BINS):
            raise ConfigError(
                f"an action has one number or more, of at most {BINS:,} choices, found {self.width} of "
                f"{self.choices}"
            )

    def tokens(self, alphabet: Alphabet) -> range:
        """Those of which each number of an action is one."""
        first = alphabet.texts if self.choices is None else 0
        return range(first, first + (self.choices or BINS))

    def read(self, chosen: Int[np.ndarray, "*s"]) -> Float[np.ndarray, "*s"] | Int[np.ndarray, "*s"]:
        """The actions that the places of tokens within ``tokens`` stand for."""
        return from_bins(chosen) if self.choices is None else chosen
