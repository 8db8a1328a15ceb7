"""Things worth showing to a person: neighbours, completions, restored parts, confusions and confident mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import zip_longest
from typing import Any, ClassVar

from .metrics import Figure

#: Of one sample's modality: its key and the modality's name.
Place = tuple[str, str]
#: What is shown of a value that was restored.
PARTS = ("whole", "hidden", "restored")


@dataclass(frozen=True)
class Item:
    """Something to show. ``places`` are the media it needs."""

    kind: ClassVar[str]

    def places(self) -> list[Place]:
        return []

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind} | asdict(self)


@dataclass(frozen=True)
class Neighbour:
    """One retrieved sample: its cosine to the query, and whether it is a right one."""

    key: str
    score: float
    right: bool


@dataclass(frozen=True)
class Neighbours(Item):
    """The first results for a query; ``rank`` is the place of the first right one ``among`` so many.

    ``worst`` says that the query was picked for its bad result, and not evenly. Neighbours within one modality have
    no rank: no result is the one that was asked for.
    """

    kind: ClassVar[str] = "neighbours"
    task: str
    source: str
    target: str
    key: str
    rank: float | None
    worst: bool
    among: int
    found: tuple[Neighbour, ...]

    def places(self) -> list[Place]:
        return [(self.key, self.source), *((one.key, self.target) for one in self.found)]


@dataclass(frozen=True)
class Completion(Item):
    """A generated text beside the expected one. ``parts`` says what of it is right, where that is known."""

    kind: ClassVar[str] = "completion"
    task: str
    key: str
    inputs: tuple[str, ...]
    prompt: str
    expected: str
    found: str
    right: bool
    parts: Mapping[str, bool] = field(default_factory=dict)

    def places(self) -> list[Place]:
        return [(self.key, modality) for modality in self.inputs]


@dataclass(frozen=True)
class Restored(Item):
    """A value with a part hidden, and with that part restored: what was seen by the network is shown by the task."""

    kind: ClassVar[str] = "restored"
    task: str
    key: str
    modality: str
    explained: float | None

    def places(self) -> list[Place]:
        return [(self.key, f"{self.modality} {part}") for part in PARTS]


@dataclass(frozen=True)
class Mistake(Item):
    """A wrong class with the probability that the model gave it."""

    kind: ClassVar[str] = "mistake"
    task: str
    key: str
    modality: str
    expected: str
    found: str
    confidence: float

    def places(self) -> list[Place]:
        return [(self.key, self.modality)]


@dataclass(frozen=True)
class Confusion(Item):
    """How often each label (row) was taken for each label (column), and the figures of each label."""

    kind: ClassVar[str] = "confusion"
    task: str
    modality: str
    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    f1: tuple[float, ...]


@dataclass(frozen=True)
class Reliance(Item):
    """The score of a task on the same examples with everything and without one modality."""

    kind: ClassVar[str] = "reliance"
    task: str
    withheld: str
    complete: Figure
    without: Figure
    drop: Figure


def select(
    galleries: Sequence[Sequence[Item]], *, samples: int, cost: Callable[[Place], int], budget: int
) -> list[Item]:
    """Items of all galleries, taken in turn, of at most ``samples`` samples and media that cost ``budget``.

    Half of both is for items about one sample each, which would lose against lists of neighbours.
    """
    turns = [item for turn in zip_longest(*galleries) for item in turn if item is not None]
    kept: set[int] = set()
    keys: set[str] = set()
    spent = 0
    for alone, share in ((True, 2), (False, 1)):
        for index, item in enumerate(turns):
            places = item.places()
            own = {key for key, _ in places}
            if index in kept or (alone and len(own) > 1) or len(keys | own) > samples // share:
                continue
            price = sum(map(cost, places))
            if spent + price <= budget // share:
                kept.add(index)
                keys |= own
                spent += price
    return [turns[index] for index in sorted(kept)]
