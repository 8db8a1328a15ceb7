"""Symbolic scenes: what is in a picture, where it is, how it moves, and to which split it belongs.

A scene is a pure function of (seed, split, index, attempt); pictures, sounds and sentences follow from it.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import zlib
from dataclasses import dataclass

import numpy as np

SIDE = 64  # pixels
FRAMES = 8  # of a clip
SPEED = 1.0  # pixels per frame
GRID = 4  # centres lie on a grid of 1 / GRID pixel, so that the renderer can keep its masks

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross", "heart", "moon")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SIZES = ("small", "medium", "big")
DIAMETERS = {"small": 12, "medium": 17, "big": 24}  # pixels
RELATIONS = ("left of", "above")
MOTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1), "nowhere": (0, 0)}
SPLITS = ("train", "validation", "test", "compositional")
BACKGROUNDS = 12

PAIRS = tuple(itertools.product(SHAPES, COLOURS))
# One pair per shape and per colour, so that every shape and every colour is still learnt.
HELD_OUT = frozenset((shape, COLOURS[(i + 3) % len(COLOURS)]) for i, shape in enumerate(SHAPES))
SEEN = tuple(pair for pair in PAIRS if pair not in HELD_OUT)

_COUNT_PROBABILITIES = (0.3, 0.4, 0.3)  # of one, two and three objects
_WIDEST = 60  # pixels: the largest sum of diameters that fits side by side with room to move
_GAP = 1.5  # pixels between two objects' discs
_MARGIN = 0.5  # pixels between a disc and the border
_SLOPE = (
    0.45  # a row or column is at most so steep against its axis, so that nobody can take one for the other
)
_STEP = 3.0  # pixels between the x positions of a vertical layout, so that left to right is defined
_CANDIDATES = 192  # placements drawn at once


@dataclass(frozen=True)
class Thing:
    """One object, as a caption names it."""

    shape: str
    colour: str
    size: str

    @property
    def pair(self) -> tuple[str, str]:
        """(shape, colour): unique within a scene, so that "the red star" always names one object."""
        return self.shape, self.colour


@dataclass(frozen=True)
class Facts:
    """What a caption says, in canonical form.

    Args:
        things: one to three objects, from left to right or from top to bottom.
        relation: "left of" or "above", between each thing and the next; None for a single thing.
    """

    things: tuple[Thing, ...]
    relation: str | None


@dataclass(frozen=True)
class Scene:
    """Facts with their geometry.

    Args:
        facts: the symbolic content.
        centres: (x, y) in pixels, y downwards, of each of `facts.things` in the first frame.
        motions: a key of MOTIONS for each of `facts.things`.
        background: 0 .. BACKGROUNDS - 1.
        identity: (seed, split, index, attempt) as integers; it seeds noise and wording.
    """

    facts: Facts
    centres: tuple[tuple[float, float], ...]
    motions: tuple[str, ...]
    background: int
    identity: tuple[int, int, int, int]

    @property
    def left_to_right(self) -> tuple[Thing, ...]:
        """The things in the order in which they sound."""
        order = sorted(range(len(self.centres)), key=lambda k: self.centres[k][0])
        return tuple(self.facts.things[k] for k in order)

    def centres_at(self, frame: int) -> list[tuple[float, float]]:
        """(x, y) in pixels of each thing in frame 0 .. FRAMES - 1 of the clip."""
        distance = SPEED * frame
        return [
            (x + distance * MOTIONS[motion][0], y + distance * MOTIONS[motion][1])
            for (x, y), motion in zip(self.centres, self.motions, strict=True)
        ]

    def generator(self, purpose: str) -> np.random.Generator:
        """The scene's own random numbers for one purpose, for example "sound"."""
        return _generator(self.identity, purpose)


def fits(sizes: tuple[str, ...]) -> bool:
    """Whether objects of these sizes fit side by side: all but two big ones beside a medium or big one."""
    return sum(DIAMETERS[size] for size in sizes) <= _WIDEST


def split_of(facts: Facts) -> str:
    """The only split in which these facts may occur, whatever the seed: no world leaks into another's test.

    Facts with a held-out pair are "compositional"; of the others a hash gives a tenth to "test" and one to
    "validation".
    """
    if any(thing.pair in HELD_OUT for thing in facts.things):
        return "compositional"
    words = [f"{thing.size} {thing.colour} {thing.shape}" for thing in facts.things]
    digest = hashlib.blake2b(f" {facts.relation} ".join(words).encode(), digest_size=8).digest()
    return {0: "test", 1: "validation"}.get(int.from_bytes(digest, "big") % 10, "train")


def count_scenes() -> int:
    """How many distinct facts the world can hold, over all splits."""
    total = 0
    for count in (1, 2, 3):
        layouts = 1 if count == 1 else len(RELATIONS)
        sizes = sum(fits(combination) for combination in itertools.product(SIZES, repeat=count))
        total += layouts * sizes * math.perm(len(PAIRS), count)
    return total


def draw_facts(seed: int, split: str, index: int, attempt: int = 0) -> Facts:
    """The facts of one sample; always the same for the same arguments."""
    rng = _generator((seed, SPLITS.index(split), index, attempt), "facts")
    while True:
        facts = _propose(rng, held_out=split == "compositional")
        if split_of(facts) == split:
            return facts


def distinct_attempts(seed: int, split: str, count: int) -> list[int]:
    """For each index below `count`, the first attempt whose facts no earlier index has.

    An entry depends on earlier indices only, so a longer list starts with the shorter one.
    """
    taken: set[Facts] = set()
    attempts = []
    for index in range(count):
        attempt = 0
        while (facts := draw_facts(seed, split, index, attempt)) in taken:
            attempt += 1
        taken.add(facts)
        attempts.append(attempt)
    return attempts


def draw_scene(seed: int, split: str, index: int, attempt: int = 0, *, moving: bool = False) -> Scene:
    """One whole scene. A moving one draws a motion for each object, and its relations hold in every frame."""
    facts = draw_facts(seed, split, index, attempt)
    identity = (seed, SPLITS.index(split), index, attempt)
    rng = _generator(identity, "moving layout" if moving else "layout")
    background = int(rng.integers(BACKGROUNDS))
    count = len(facts.things)
    while True:
        motions = (
            tuple(list(MOTIONS)[k] for k in rng.integers(len(MOTIONS), size=count))
            if moving
            else ("nowhere",) * count
        )
        centres = _place(facts, motions, rng)
        if centres is not None:
            return Scene(
                facts=facts, centres=centres, motions=motions, background=background, identity=identity
            )


def is_clip(seed: int, split: str, index: int, share: float) -> bool:
    """Whether a sample is among the share (0 .. 1) that has a clip; a larger share only adds."""
    return bool(_generator((seed, SPLITS.index(split), index, 0), "clip").random() < share)


def _generator(identity: tuple[int, int, int, int], purpose: str) -> np.random.Generator:
    return np.random.default_rng([*identity, zlib.crc32(purpose.encode())])


def _propose(rng: np.random.Generator, *, held_out: bool) -> Facts:
    count = 1 + int(np.searchsorted(np.cumsum(_COUNT_PROBABILITIES)[:-1], rng.random(), side="right"))
    pairs = [SEEN[k] for k in rng.choice(len(SEEN), count, replace=False)]
    if held_out:
        rare = sorted(HELD_OUT)
        pairs[int(rng.integers(count))] = rare[int(rng.integers(len(rare)))]
    while not fits(sizes := tuple(SIZES[k] for k in rng.integers(len(SIZES), size=count))):
        pass
    relation = RELATIONS[int(rng.integers(len(RELATIONS)))] if count > 1 else None
    things = tuple(Thing(shape, colour, size) for (shape, colour), size in zip(pairs, sizes, strict=True))
    return Facts(things=things, relation=relation)


def _place(
    facts: Facts, motions: tuple[str, ...], rng: np.random.Generator
) -> tuple[tuple[float, float], ...] | None:
    """Centres in pixels under which the facts hold in every frame, or None if no candidate does.

    Shapes in the code: c candidates, f frames, n things, p pairs of things.
    """
    count = len(facts.things)
    radii = np.array([DIAMETERS[thing.size] / 2 for thing in facts.things])
    # Discs may overlap a little along the axis when they are apart across it: start from squeezed distances.
    reach = np.concatenate([[radii[0] + _MARGIN], 0.85 * (radii[:-1] + radii[1:] + _GAP)])
    nearest = np.cumsum(reach)
    slack = SIDE - _MARGIN - radii[-1] - nearest[-1]
    along = nearest + np.sort(rng.uniform(0, slack, (_CANDIDATES, count)), axis=1)  # (c, n)
    vertical = facts.relation == "above"
    begin = rng.uniform(radii[0] + _MARGIN, SIDE - radii[0] - _MARGIN, (_CANDIDATES, 1))
    most = _SLOPE * np.diff(along, axis=1)
    # A column leans to the right, so that the sound has its objects in the caption's order.
    drift = rng.uniform(np.minimum(_STEP, most) if vertical else -most, most)
    across = begin + np.concatenate([np.zeros((_CANDIDATES, 1)), np.cumsum(drift, axis=1)], axis=1)
    x, y = (across, along) if vertical else (along, across)
    starts = np.round(np.stack([x, y], axis=-1) * GRID) / GRID  # (c, n, 2)

    moving = any(motion != "nowhere" for motion in motions)
    times = SPEED * np.arange(FRAMES if moving else 1)
    velocities = np.array([MOTIONS[motion] for motion in motions])
    paths = starts[:, None] + times[None, :, None, None] * velocities  # (c, f, n, 2)
    room = radii[:, None] + _MARGIN
    good = ((paths >= room) & (paths <= SIDE - room)).all(axis=(1, 2, 3))
    first, second = np.triu_indices(count, 1)
    steps = paths[:, :, second] - paths[:, :, first]  # (c, f, p, 2)
    main, side = (
        (steps[..., 1], np.abs(steps[..., 0])) if vertical else (steps[..., 0], np.abs(steps[..., 1]))
    )
    clear = np.hypot(main, side) >= radii[first] + radii[second] + _GAP
    ordered = (main > 0) & (side <= _SLOPE * main)
    if vertical:
        ordered &= steps[..., 0] >= _STEP
    good &= (clear & ordered).all(axis=(1, 2))
    if not good.any():
        return None
    chosen = starts[int(np.argmax(good))]
    return tuple((float(px), float(py)) for px, py in chosen)
