"""From a Sample to an Item: decoded and prepared, with everything that is drawn anew at each visit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.modality import Composer, Medium, Modality
from ..core.random import seed_of
from ..core.sample import Sample, Segment


@dataclass(frozen=True)
class Piece:
    """One prepared segment and what was drawn for it."""

    modality: str
    values: Tensor
    turn: int
    content: bool
    target: bool
    hidden: bool
    corrupt: bool
    seed: int
    layout: tuple[int, ...] | None = None
    learnt: Tensor | None = None
    branch: Tensor | None = None
    asked: Tensor | None = None


@dataclass(frozen=True)
class Item:
    """One prepared sample. ``concept`` is a hash that is equal for samples that mean the same."""

    key: str
    concept: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True)
class Draws:
    """What is drawn for a sample at each visit in training, all from a seed of its own.

    ``turns``: at most so many of its questions. ``withhold``: probability that some of its media, where it has
    several, are hidden from the rest, so that the model learns to do with any of them. ``corrupt``: probability
    that a segment is masked and reconstructed.
    """

    turns: int = 2
    withhold: float = 0.5
    corrupt: float = 0.1


_OVERHEAD = 800  # bytes that a tensor and its place in a dict take beside its values


class Cache:
    """Prepared values kept in memory until ``limit`` bytes are used; what comes later is not kept."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used = limit, 0
        self._media: dict[tuple[str, str | Path], Medium] = {}

    def get(self, place: tuple[str, str | Path]) -> Medium | None:
        return self._media.get(place)

    def put(self, place: tuple[str, str | Path], medium: Medium) -> None:
        size = medium.values.numel() * medium.values.element_size() + _OVERHEAD
        if self.used + size <= self.limit:
            self.used += size
            self._media[place] = medium


def prepare(
    sample: Sample,
    modalities: Mapping[str, Modality],
    *,
    draws: Draws | None = None,
    seed: int = 0,
    cache: Cache | None = None,
    answer: bool = False,
    apart: bool = False,
) -> Item:
    """Decode and prepare the segments of the modalities that the model knows; where one of these is a ``Composer``, its
    words are one sequence, which ``answer`` leaves open, unless each segment is wanted ``apart``.

    Without ``draws`` nothing is random. In training a sample of which the model reads nothing is an Item without
    pieces, so that one may train on a part of mixed data; in use it is a mistake. Raises DataError naming the key, the
    file and the field.
    """
    generator = torch.Generator().manual_seed(seed_of(seed, sample.key)) if draws else None
    known = [segment for segment in sample.segments if segment.modality in modalities]
    if not known and draws is None:
        has = ", ".join(sample.modalities())
        raise DataError(
            f"has no segment of a modality the model knows ({', '.join(modalities)}), only {has}",
            key=sample.key,
            file=sample.file or None,
            line=sample.line,
        )
    if draws and generator is not None:
        known = _some_turns(known, draws.turns, generator)
    composer = next((one for one in modalities.values() if isinstance(one, Composer)), None)
    if composer is not None and known and not apart:
        pieces = _composed(sample, known, modalities, composer, generator, seed, cache, answer)
    else:
        pieces = _apart(sample, known, modalities, draws, generator, seed, cache)
    return Item(sample.key, _concept(sample), tuple(pieces))


def _apart(
    sample: Sample,
    known: Sequence[Segment],
    modalities: Mapping[str, Modality],
    draws: Draws | None,
    generator: torch.Generator | None,
    seed: int,
    cache: Cache | None,
) -> Iterator[Piece]:
    """One piece per segment."""
    hidden: set[int] = set()
    if draws and generator is not None:
        hidden = _withheld(known, draws.withhold, generator)
    for place, segment in enumerate(known):
        medium = _medium(sample, segment, modalities[segment.modality], generator, cache)
        corrupt = (
            draws is not None
            and generator is not None
            and segment.role == "content"
            and float(torch.rand((), generator=generator)) < draws.corrupt
        )
        yield Piece(
            modality=segment.modality,
            values=medium.values,
            turn=segment.turn,
            content=segment.role == "content",
            target=segment.target,
            hidden=place in hidden,
            corrupt=corrupt,
            seed=seed_of(seed, sample.key, place),
            layout=medium.layout,
        )


def _composed(
    sample: Sample,
    known: Sequence[Segment],
    modalities: Mapping[str, Modality],
    composer: Composer,
    generator: torch.Generator | None,
    seed: int,
    cache: Cache | None,
    answer: bool,
) -> Iterator[Piece]:
    """One piece per segment that is no text, or for each of its places, and one for all words of the sample."""
    media = [
        None
        if segment.modality == composer.name
        else _medium(sample, segment, modalities[segment.modality], generator, cache)
        for segment in known
    ]
    try:
        composed = composer.compose(known, media, answer=answer)
    except DataError as error:
        raise error.at(key=sample.key, file=sample.file or None, line=sample.line) from None

    def piece(place: int, modality: str, values: Tensor, *, target: bool, **more: Any) -> Piece:
        return Piece(
            modality, values, 0, not target, target, False, False, seed_of(seed, sample.key, place), **more
        )

    places: list[tuple[int, Tensor | None]] = [(place, None) for place in range(len(known))]
    if composed.asked is not None:
        places = [(one.segment, one.values) for one in composed.asked]
    for place, asked in places:
        if (medium := media[place]) is not None:
            more = {"layout": medium.layout, "asked": asked}
            yield piece(place, known[place].modality, medium.values, target=False, **more)
    tokens = {"learnt": composed.learnt, "branch": composed.branch}
    yield piece(len(known), composer.name, composed.values, target=True, **tokens)


def _medium(
    sample: Sample,
    segment: Segment,
    modality: Modality,
    generator: torch.Generator | None,
    cache: Cache | None,
) -> Medium:
    keep = cache is not None and not modality.draws and isinstance(segment.value, str | Path)
    place = (segment.modality, segment.value)
    if keep and cache is not None and (found := cache.get(place)) is not None:
        return found
    try:
        raw = modality.load_value(segment.value)
        medium = Medium(modality.prepare(raw, generator), modality.layout(raw))
    except DataError as error:
        field = segment.field or segment.modality
        raise error.at(key=sample.key, file=sample.file or None, line=sample.line, field=field) from None
    if keep and cache is not None:
        cache.put(place, medium)
    return medium


def _concept(sample: Sample) -> int:
    label = sample.labels.get("label")
    if label is not None:
        return seed_of("label", str(label))
    text = next(
        (s for s in sample.segments if s.role == "content" and isinstance(s.value, str) and s.target), None
    )
    return seed_of("text", text.value) if text else seed_of("key", sample.key)


def _some_turns(segments: Sequence[Segment], most: int, generator: torch.Generator) -> list[Segment]:
    turns = sorted({segment.turn for segment in segments if segment.turn})
    if len(turns) <= most:
        return list(segments)
    kept = {turns[i] for i in torch.randperm(len(turns), generator=generator)[:most].tolist()} | {0}
    return [segment for segment in segments if segment.turn in kept]


def _withheld(segments: Sequence[Segment], probability: float, generator: torch.Generator) -> set[int]:
    media = [i for i, s in enumerate(segments) if s.role == "content" and not s.target]
    if len(media) < 2 or float(torch.rand((), generator=generator)) >= probability:
        return set()
    count = int(torch.randint(1, len(media), (), generator=generator))
    return {media[i] for i in torch.randperm(len(media), generator=generator)[:count].tolist()}
