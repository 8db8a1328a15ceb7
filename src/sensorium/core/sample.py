"""What a user's data is made of: a Sample is an ordered list of Segments, each of one modality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: ``content`` describes the thing itself (a picture, its sound, its caption) and is what contrastive
#: objectives align; the others are the parts of a dialogue about it.
ROLES = ("content", "system", "user", "assistant")


@dataclass(frozen=True)
class Segment:
    """One piece of one modality.

    ``value`` is whatever the modality's ``read`` accepts: a path, bytes, inline text, an array.
    ``target`` says that a language head learns to produce it from what comes before.
    ``turn`` groups what belongs together: turn 0 is seen by every turn, other turns do not see each other,
    so that several questions about one picture stay independent. ``field`` is its name in the user's file.
    """

    modality: str
    value: Any
    role: str = "content"
    target: bool = False
    turn: int = 0
    field: str = ""


@dataclass(frozen=True)
class Sample:
    """One item of data: ordered segments, a unique key, and labels for evaluation.

    A pair is two segments; a chat is many; a missing modality is an absent segment.
    ``labels`` may hold ``label`` (the class), ``attributes``, ``types`` (per question) and any user value.
    ``file`` and ``line`` say where it was declared.
    """

    key: str
    segments: tuple[Segment, ...]
    split: str | None = None
    group: str | None = None
    labels: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    line: int | None = None

    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities present, in order of first appearance."""
        return tuple(dict.fromkeys(segment.modality for segment in self.segments))

    def content(self, modality: str) -> Segment | None:
        """The first content segment of a modality, which stands for the sample in retrieval."""
        return next((s for s in self.segments if s.modality == modality and s.role == "content"), None)
