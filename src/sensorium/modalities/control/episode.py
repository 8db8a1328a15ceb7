"""Episodes as one sequence of tokens: texts, what is seen, what is done (Gato, Reed et al. 2022, arXiv:2205.06175)."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ...core import ConfigError, DataError, Segment
from ...core.modality import Composed, Composer, Medium
from ..files import MIB
from ..text import Text
from .alphabet import Alphabet
from .trajectory import Trajectory, check_trajectory, read_trajectory

_SHOWN = 20  # steps


@final
class Episode(Composer):
    """Episodes (see ``read_trajectory``) as int64 tokens [t], of which texts and actions are learnt.

    An episode is its text, then for each step what is seen, by name in alphabetical order, a separator, and what is
    done. Which of a step's numbers is seen where is told by the token itself: at place ``p`` from 0, one of an
    ``alphabet`` of ``size`` tokens has ``size * (1 + p)`` added, for up to ``places`` of them. Several episodes of a
    sample follow one another: all before the last are its prompt.

    ``pictures`` are the modalities of pictures seen at each step, and how many rows each picture becomes: the first
    segment of such a modality is that of the first episode, and has a picture for each step. Texts get a vocabulary of
    up to ``texts`` tokens that ``fit`` learns. A sample of more than ``max_tokens`` is a DataError.
    """

    name: ClassVar[str] = "episode"
    extensions: ClassVar[tuple[str, ...]] = (".json", ".npz")

    def __init__(
        self,
        *,
        texts: int = 2048,
        pictures: dict[str, int] | None = None,
        places: int = 64,
        max_tokens: int = 1024,
        max_bytes: int = 64 * MIB,
    ) -> None:
        if places < 1 or max_tokens < 1 or any(rows < 1 for rows in (pictures or {}).values()):
            raise ConfigError("Episode: places, max_tokens and the rows of pictures must be at least 1")
        self.alphabet = Alphabet(texts, tuple(pictures or {}))
        self.pictures, self.places = pictures or {}, places
        self.max_tokens, self.max_bytes = max_tokens, max_bytes
        self._words = Text(vocabulary=texts)

    @property
    def draws(self) -> bool:
        """Whether training augments."""
        return False

    @property
    def eos(self) -> int:
        """The token that ends a text."""
        return self._words.eos

    def read(self, source: Any) -> Trajectory:
        """From a path or bytes of JSON or NPZ, or a dict of arrays or lists. Raises DataError."""
        return read_trajectory(source, self.max_bytes)

    def check(self, raw: Trajectory) -> None:
        """Raise DataError for what is empty, unequally long, or holds numbers that are no tokens."""
        check_trajectory(raw)

    def prepare(self, raw: Trajectory, generator: torch.Generator | None = None) -> Int[Tensor, "t"]:
        """The tokens of an episode by itself, without pictures."""
        return self._composed([raw], {}, answer=raw.acted < raw.steps).values

    def compose(
        self, segments: Sequence[Segment], media: Sequence[Medium | None], *, answer: bool = False
    ) -> Composed:
        """The sequence of a sample. ``answer``: the last episode is left open, for an action or a text to follow.
        What a user says is text. Raises DataError naming the field.
        """
        told = [
            self._loaded(segment) for segment, medium in zip(segments, media, strict=True) if medium is None
        ]
        seen: dict[str, list[Medium]] = {name: [] for name in self.pictures}
        for segment, medium in zip(segments, media, strict=True):
            if medium is not None:
                if segment.modality not in seen:
                    raise DataError(
                        f"this model sees no {segment.modality} at its steps", field=segment.field or None
                    )
                seen[segment.modality].append(medium)
        told = told or [Trajectory()]
        for name, given in seen.items():
            if given and len(given) != len(told):
                raise DataError(
                    f"expected one for each of {len(told)} episodes, found {len(given)}", field=name
                )
        return self._composed(told, seen, answer=answer)

    def decode(self, ids: Sequence[int] | Int[Tensor, "t"]) -> str:
        """The text of tokens up to the first ``eos``; what is no text is left out."""
        found = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        return self._words.decode([token for token in found if token < self._words.vocabulary_size])

    def blank(self) -> Int[Tensor, "1"]:
        """One token."""
        return torch.zeros(1, dtype=torch.long)

    def size(self, raw: Trajectory) -> tuple[float, str]:
        """The number of steps."""
        return float(raw.steps), "steps"

    def show(self, raw: Trajectory) -> str:
        """A table of the first steps."""
        parts = {**raw.observations, **({"actions": raw.actions} if raw.actions is not None else {})}
        head = "".join(f"<th>{html.escape(name)}</th>" for name in parts)
        rows = "".join(
            f"<tr>{''.join(f'<td>{_shown(values, step)}</td>' for values in parts.values())}</tr>"
            for step in range(min(raw.steps, _SHOWN))
        )
        said = f"<p>{html.escape(raw.text)}</p>" if raw.text is not None else ""
        return f"{said}<table><caption>{raw.steps} steps</caption><tr>{head}</tr>{rows}</table>"

    def fit(self, raws: Iterable[Trajectory]) -> None:
        """Learn the vocabulary of texts; where there are none, it is that of single bytes."""
        texts = [raw.text for raw in raws if raw.text is not None]
        self._words.fit(texts or ["-"])

    def save(self, directory: Path) -> None:
        """Write the vocabulary."""
        self._words.save(directory)

    def load(self, directory: Path) -> None:
        """Read the vocabulary. Raises CheckpointError if it is missing or damaged."""
        self._words.load(directory)

    def _loaded(self, segment: Segment) -> Trajectory:
        if segment.role == "user" and isinstance(segment.value, str):
            return Trajectory(text=segment.value)
        try:
            return self.load_value(segment.value)
        except DataError as error:
            raise error.at(field=error.field or segment.field or None) from None

    def _composed(
        self, told: Sequence[Trajectory], seen: Mapping[str, Sequence[Medium]], *, answer: bool
    ) -> Composed:
        self._check_total(sum(one.steps * (1 + _width(one)) + one.acted for one in told))
        opened = [one.acted < one.steps for one in told]
        wanted = [False] * (len(told) - 1) + [answer and told[-1].steps > 0]
        if opened != wanted:
            raise DataError(
                "an action is wanted: the last episode must have one less than steps"
                if answer
                else "expected an action for each step, found one less",
                field="actions",
            )
        lines = [
            self._line(one, {name: given[index] for name, given in seen.items() if given})
            for index, one in enumerate(told)
        ]
        ids, learnt = (np.concatenate(parts) for parts in zip(*lines, strict=True))
        self._check_total(len(ids))
        if not (answer or learnt.any()):
            raise DataError("there is nothing to learn: neither actions nor texts")
        return Composed(torch.from_numpy(ids), torch.from_numpy(learnt & (not answer)))

    def _check_total(self, total: int) -> None:
        if total > self.max_tokens:
            raise DataError(
                f"the sample has {total:,} tokens or more, the limit is {self.max_tokens:,}: cut its episodes"
            )

    def _line(self, told: Trajectory, seen: Mapping[str, Medium]) -> tuple[Int[np.ndarray, "t"], np.ndarray]:
        """The tokens of one episode, and which are texts or actions."""
        spoken = [] if told.text is None else [*self._spoken(told.text), self.eos]
        pictures = {name: self._held(name, one, told.steps) for name, one in seen.items()}
        if not told.steps:
            before = [part.flatten() for part in pictures.values()]
            return _marked([(part, False) for part in before] + [(np.array(spoken, np.int64), True)])
        return _marked([(np.array(spoken, np.int64), True), *self._steps(told, pictures)])

    def _steps(
        self, told: Trajectory, pictures: Mapping[str, np.ndarray]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        columns, place, size = [], 0, self.alphabet.size
        for name in sorted({*told.observations, *pictures}):
            if name in pictures:
                column = pictures[name]
            else:
                column = self.alphabet.seen(told.observations[name])
                column = column + size * (1 + place + np.arange(column.shape[1]))
            columns.append(column)
            place += column.shape[1]
        if place > self.places:
            raise DataError(f"{place} tokens are seen at a step, the limit is {self.places}")
        seen = np.concatenate([*columns, np.full((told.steps, 1), self.alphabet.separator)], axis=1)
        width = 0 if told.actions is None else told.actions.shape[1]
        done = np.zeros((told.steps, width), np.int64)
        if told.actions is not None:
            done[: told.acted] = self.alphabet.done(told.actions)
        marks = np.zeros(seen.shape[1] + width, bool)
        marks[seen.shape[1] :] = True
        length = told.steps * len(marks) - (told.steps - told.acted) * width
        ids = np.concatenate([seen, done], axis=1).flatten()
        return [(ids[:length], np.tile(marks, told.steps)[:length])]

    def _held(self, name: str, medium: Medium, steps: int) -> np.ndarray:
        """Places for the rows of each picture."""
        count = len(medium.values)
        if steps and count != steps:
            raise DataError(f"expected a picture for each of {steps} steps, found {count}", field=name)
        return np.full((count, self.pictures[name]), self.alphabet.places[name])

    def _spoken(self, text: str) -> list[int]:
        self._words.check(text)
        return self._words.encode(text)


def _width(told: Trajectory) -> int:
    """How many numbers are seen at a step."""
    return sum(values.shape[1] for values in told.observations.values())


def _marked(parts: Sequence[tuple[np.ndarray, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Parts one after the other, and what is said of their tokens."""
    marks = [np.broadcast_to(np.asarray(mark), ids.shape) for ids, mark in parts]
    return np.concatenate([ids for ids, _ in parts]).astype(np.int64), np.concatenate(marks)


def _shown(values: np.ndarray, step: int) -> str:
    return ", ".join(f"{value:.3g}" for value in values[step]) if step < len(values) else "?"
