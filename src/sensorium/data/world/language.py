"""Captions from an invertible grammar, their comparison with a scene, and questions with answers.

caption: ["there is "] thing [RELATION thing [RELATION thing]]       (the same relation twice)
thing:   "a" SIZE COLOUR SHAPE
RELATION: "left of" | "right of" | "above" | "below"
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from .scene import COLOURS, HELD_OUT, SHAPES, SIZES, Facts, Scene, Thing, split_of

T = TypeVar("T")

INVERSE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
NUMBERS = ("one", "two", "three")
_CANONICAL = {
    "left of": ("left of", False),
    "right of": ("left of", True),
    "above": ("above", False),
    "below": ("above", True),
}
_FRAME = "there is "
_THING = re.compile(rf"a ({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})")
_RELATION = re.compile(rf" ({'|'.join(INVERSE)}) ")


@dataclass(frozen=True)
class Question:
    """A question with its only right answer. `type`: count, colour, shape, yes_no, relation or motion."""

    question: str
    answer: str
    type: str


def describe(facts: Facts, rng: np.random.Generator | None = None) -> str:
    """A caption of the facts: the canonical one, or with `rng` sometimes reversed or after "there is"."""
    things, relation, frame = facts.things, facts.relation, ""
    if rng is not None:
        if relation is not None and rng.random() < 0.2:
            things, relation = things[::-1], INVERSE[relation]
        if rng.random() < 0.1:
            frame = _FRAME
    return frame + f" {relation} ".join(name(thing) for thing in things)


def parse(caption: str) -> Facts | None:
    """The facts that a caption states, or None if it is no sentence of the grammar. Inverse of `describe`."""
    parts = _RELATION.split(caption.strip().removeprefix(_FRAME))
    things = [_THING.fullmatch(part) for part in parts[::2]]
    if len(things) > len(NUMBERS) or len(set(parts[1::2])) > 1:
        return None
    found = tuple(Thing(size=t[1], colour=t[2], shape=t[3]) for t in things if t is not None)
    if len(found) < len(things):
        return None
    if len(found) == 1:
        return Facts(things=found, relation=None)
    relation, backwards = _CANONICAL[parts[1]]
    return Facts(things=found[::-1] if backwards else found, relation=relation)


def compare(caption: str, truth: Scene | Facts) -> dict[str, bool]:
    """What a caption says rightly of a scene: keys shape, colour, size, relation, count and all.

    The caption's objects are matched to the scene's so that most attributes agree. An attribute is right when
    it is right for every object; the relation is right when its axis is and the match keeps the order. With a
    wrong count, or for a sentence outside the grammar, every value is False.
    """
    facts = truth.facts if isinstance(truth, Scene) else truth
    said = parse(caption)
    if said is None or len(said.things) != len(facts.things):
        return dict.fromkeys(("shape", "colour", "size", "relation", "count", "all"), False)

    def agreement(order: tuple[Thing, ...]) -> dict[str, list[bool]]:
        pairs = list(zip(order, facts.things, strict=True))
        return {
            "shape": [a.shape == b.shape for a, b in pairs],
            "colour": [a.colour == b.colour for a, b in pairs],
            "size": [a.size == b.size for a, b in pairs],
        }

    # max() returns the first of equals, and the first permutation is the caption's own order.
    order = max(itertools.permutations(said.things), key=lambda o: sum(map(sum, agreement(o).values())))
    result = {attribute: all(matches) for attribute, matches in agreement(order).items()}
    result["relation"] = said.relation == facts.relation and order == said.things
    result["count"] = True
    result["all"] = all(result.values())
    return result


def judge(caption: str, attributes: Mapping[str, Any]) -> dict[str, bool]:
    """``compare`` with the ``attributes`` of a manifest line."""
    parts = (attributes["shape"], attributes["colour"], attributes["size"])
    things = tuple(Thing(*values) for values in zip(*parts, strict=True))
    return compare(caption, Facts(things, attributes.get("relation")))


def name(thing: Thing) -> str:
    """For example "a small red star"."""
    return f"a {thing.size} {thing.colour} {thing.shape}"


def ask(scene: Scene, rng: np.random.Generator, *, moving: bool = False) -> list[Question]:
    """Two or three questions of different types about a scene; if it moves, one of them is about motion."""
    makers = list(_MAKERS)
    drawn = [made for k in rng.permutation(len(makers)) if (made := makers[k](scene, rng)) is not None]
    wanted = int(rng.integers(2, 4))
    if not moving:
        return drawn[:wanted]
    questions = [_motion(scene, rng), *drawn[: wanted - 1]]
    return [questions[k] for k in rng.permutation(len(questions))]


def _count(scene: Scene, rng: np.random.Generator) -> Question:
    return Question("how many objects are there?", NUMBERS[len(scene.facts.things) - 1], "count")


def _colour(scene: Scene, rng: np.random.Generator) -> Question | None:
    counts = Counter(thing.shape for thing in scene.facts.things)
    unique = [thing for thing in scene.facts.things if counts[thing.shape] == 1]
    if not unique:
        return None
    thing = _pick(unique, rng)
    return Question(f"what colour is the {thing.shape}?", thing.colour, "colour")


def _shape(scene: Scene, rng: np.random.Generator) -> Question | None:
    counts = Counter(thing.colour for thing in scene.facts.things)
    unique = [thing for thing in scene.facts.things if counts[thing.colour] == 1]
    if not unique:
        return None
    thing = _pick(unique, rng)
    return Question(f"what shape is the {thing.colour} object?", thing.shape, "shape")


def _yes_no(scene: Scene, rng: np.random.Generator) -> Question:
    shape, colour = _pick(scene.facts.things, rng).pair
    there = bool(rng.random() < 0.5)
    if not there:
        # A hard negative: one attribute of a real object swapped. Training does not even name held-out pairs.
        banned = {thing.pair for thing in scene.facts.things}
        if split_of(scene.facts) != "compositional":
            banned |= HELD_OUT
        swapped = (
            [(other, colour) for other in SHAPES]
            if rng.random() < 0.5
            else [(shape, other) for other in COLOURS]
        )
        shape, colour = _pick([pair for pair in swapped if pair not in banned], rng)
    article = "an" if colour[0] in "aeiou" else "a"
    return Question(f"is there {article} {colour} {shape}?", "yes" if there else "no", "yes_no")


def _relation(scene: Scene, rng: np.random.Generator) -> Question | None:
    things, relation = scene.facts.things, scene.facts.relation
    if relation is None:
        return None
    if rng.random() < 0.5:
        first, second = sorted(rng.choice(len(things), 2, replace=False).tolist())
        subject, object_ = things[first], things[second]
        truth = bool(rng.random() < 0.5)
        word = relation
        if rng.random() < 0.5:
            subject, object_, word = object_, subject, INVERSE[word]
        if not truth:
            word = INVERSE[word]
        question = f"is the {subject.colour} {subject.shape} {word} the {object_.colour} {object_.shape}?"
        return Question(question, "yes" if truth else "no", "relation")
    # Only the neighbour of an outermost thing is left of (or above) exactly one other.
    if rng.random() < 0.5:
        answer, anchor, word = things[0], things[1], relation
    else:
        answer, anchor, word = things[-1], things[-2], INVERSE[relation]
    return Question(f"what is {word} the {anchor.colour} {anchor.shape}?", name(answer), "relation")


def _motion(scene: Scene, rng: np.random.Generator) -> Question:
    k = int(rng.integers(len(scene.motions)))
    thing = scene.facts.things[k]
    return Question(f"which way does the {thing.colour} {thing.shape} move?", scene.motions[k], "motion")


def _pick(options: Sequence[T], rng: np.random.Generator) -> T:
    return options[int(rng.integers(len(options)))]


_MAKERS: tuple[Callable[[Scene, np.random.Generator], Question | None], ...] = (
    _count,
    _colour,
    _shape,
    _yes_no,
    _relation,
)
