"""Captions go round, comparisons name what is wrong, and an independent reader finds the same answers."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from sensorium.data.world import Facts, Thing, ask, compare, describe, draw_scene, parse
from sensorium.data.world.scene import HELD_OUT, MOTIONS, Scene

STAR = Thing("star", "red", "small")
RING = Thing("ring", "blue", "big")
CROSS = Thing("cross", "green", "medium")
ROW = Facts((STAR, RING, CROSS), "left of")


def test_captions_go_round():
    rng = np.random.default_rng(0)
    captions = set()
    for index in range(3000):
        facts = draw_scene(0, "train", index).facts
        assert parse(describe(facts)) == facts
        caption = describe(facts, rng)
        captions.add(caption)
        assert parse(caption) == facts
    for part in ("there is", " left of ", " right of ", " above ", " below "):
        assert any(part in caption for caption in captions)


def test_canonical_caption():
    assert describe(ROW) == "a small red star left of a big blue ring left of a medium green cross"
    assert describe(Facts((STAR,), None)) == "a small red star"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a small red star left of a big blue ring", "a big blue ring right of a small red star"),
        ("there is a small red star above a big blue ring", "a big blue ring below a small red star"),
    ],
)
def test_both_directions_state_the_same(one, other):
    assert parse(one) is not None
    assert parse(one) == parse(other)
    assert parse(one) != parse(other.replace("right of", "left of").replace("below", "above"))


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "there is ",
        "a red small star",
        "a red star",
        "small red star",
        "a small red star.",
        "A small red star",
        "a small red stars",
        "a tiny red star",
        "a small red star a big blue ring",
        "a small red star left of",
        "a small red star beside a big blue ring",
        "there is there is a small red star",
        "a small red star left of a big blue ring above a medium green cross",
        "a small red star left of a big blue ring right of a medium green cross",
        " left of ".join(["a small red star"] * 4),
    ],
)
def test_other_sentences_are_rejected(caption):
    assert parse(caption) is None
    assert not any(compare(caption, ROW).values())


def wrong(caption: str, facts: Facts) -> set[str]:
    return {key for key, right in compare(caption, facts).items() if not right}


def test_compare_names_what_is_wrong():
    assert wrong(describe(ROW), ROW) == set()
    assert wrong("a small red heart left of a big blue ring left of a medium green cross", ROW) == {
        "shape",
        "all",
    }
    assert wrong("a small pink star left of a big blue ring left of a medium green cross", ROW) == {
        "colour",
        "all",
    }
    assert wrong("a big red star left of a big blue ring left of a medium green cross", ROW) == {
        "size",
        "all",
    }
    assert wrong(describe(Facts(ROW.things, "above")), ROW) == {"relation", "all"}
    assert wrong(describe(Facts(ROW.things[::-1], "left of")), ROW) == {"relation", "all"}
    # Two attributes bound to the wrong objects: each shape is there and each colour, but not together.
    assert wrong("a small blue star left of a big red ring left of a medium green cross", ROW) == {
        "colour",
        "all",
    }
    assert wrong(describe(Facts(ROW.things[:2], "left of")), ROW) == set(compare("", ROW))


def test_compare_takes_a_scene():
    scene = draw_scene(0, "test", 0)
    assert all(compare(describe(scene.facts), scene).values())


def read_answer(question: str, scene: Scene) -> str:
    """Answer from geometry and attributes alone, without the code that asks."""
    things = list(zip(scene.facts.things, scene.centres, scene.motions, strict=True))

    def find(phrase: str) -> int:
        words = phrase.split()
        hits = [
            k for k, (thing, _, _) in enumerate(things) if set(words) <= {thing.colour, thing.shape, "object"}
        ]
        assert len(hits) == 1, f"{phrase!r} must name one object"
        return hits[0]

    def holds(k: int, relation: str, j: int) -> bool:
        (x, y), (u, v) = things[k][1], things[j][1]
        return {"left of": x < u, "right of": x > u, "above": y < v, "below": y > v}[relation]

    relations = "left of|right of|above|below"
    if question == "how many objects are there?":
        return {1: "one", 2: "two", 3: "three"}[len(things)]
    if match := re.fullmatch(r"what colour is the (\w+)\?", question):
        return things[find(match[1])][0].colour
    if match := re.fullmatch(r"what shape is the (\w+ object)\?", question):
        return things[find(match[1])][0].shape
    if match := re.fullmatch(r"is there (an|a) (\w+) (\w+)\?", question):
        assert (match[1] == "an") == (match[2] == "orange")
        return "yes" if any((t.colour, t.shape) == (match[2], match[3]) for t, _, _ in things) else "no"
    if match := re.fullmatch(r"which way does the (\w+ \w+) move\?", question):
        return things[find(match[1])][2]
    if match := re.fullmatch(rf"is the (\w+ \w+) ({relations}) the (\w+ \w+)\?", question):
        return "yes" if holds(find(match[1]), match[2], find(match[3])) else "no"
    match = re.fullmatch(rf"what is ({relations}) the (\w+ \w+)\?", question)
    assert match is not None, question
    anchor = find(match[2])
    hits = [k for k in range(len(things)) if k != anchor and holds(k, match[1], anchor)]
    assert len(hits) == 1, question
    thing = things[hits[0]][0]
    return f"a {thing.size} {thing.colour} {thing.shape}"


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("split", ["train", "compositional"])
def test_answers_are_true_and_unique(split, moving):
    rng = np.random.default_rng(1)
    types: Counter[str] = Counter()
    yes: Counter[tuple[str, str]] = Counter()
    for index in range(600):
        scene = draw_scene(0, split, index, moving=moving)
        questions = ask(scene, rng, moving=moving)
        assert 2 <= len(questions) <= 3
        assert len({question.type for question in questions}) == len(questions)
        assert ("motion" in {question.type for question in questions}) == moving
        for question in questions:
            assert question.answer == read_answer(question.question, scene), (question, scene)
            types[question.type] += 1
            if question.answer in ("yes", "no"):
                yes[question.type, question.answer] += 1
    assert set(types) == {"count", "colour", "shape", "yes_no", "relation"} | (
        {"motion"} if moving else set()
    )
    assert min(types.values()) > 80
    for kind in ("yes_no", "relation"):
        share = yes[kind, "yes"] / (yes[kind, "yes"] + yes[kind, "no"])
        assert 0.35 < share < 0.65


def test_negatives_share_an_attribute_and_training_never_names_a_held_out_pair():
    rng = np.random.default_rng(2)
    for index in range(800):
        scene = draw_scene(0, "train", index)
        for question in ask(scene, rng):
            if question.type != "yes_no":
                continue
            colour, shape = question.question.rstrip("?").split()[-2:]
            assert (shape, colour) not in HELD_OUT
            assert any(thing.colour == colour or thing.shape == shape for thing in scene.facts.things)


def test_motion_answers_are_the_motions():
    rng = np.random.default_rng(3)
    scenes = [draw_scene(0, "train", index, moving=True) for index in range(200)]
    answers = {q.answer for scene in scenes for q in ask(scene, rng, moving=True) if q.type == "motion"}
    assert answers == set(MOTIONS)


def test_the_vocabulary_is_small():
    rng = np.random.default_rng(4)
    words: set[str] = set()
    for index in range(1500):
        scene = draw_scene(0, "train", index, moving=True)
        words.update(describe(scene.facts, rng).split())
        for question in ask(scene, rng, moving=True):
            words.update(question.question.rstrip("?").split(), question.answer.split())
    assert len(words) < 64
