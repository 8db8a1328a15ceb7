"""Scenes: their number, their splits, their geometry and their determinism."""

from __future__ import annotations

import itertools

import pytest

from sensorium.data.world import scene as world
from sensorium.data.world.scene import Facts, Thing


def scenes(split: str, count: int, *, moving: bool = False) -> list[world.Scene]:
    return [world.draw_scene(3, split, index, moving=moving) for index in range(count)]


def test_more_than_a_million_distinct_scenes():
    assert world.count_scenes() > 1_000_000


def test_count_of_scenes_is_what_enumeration_finds(monkeypatch):
    pairs = world.PAIRS[:4]
    monkeypatch.setattr(world, "PAIRS", pairs)
    things = [Thing(shape, colour, size) for shape, colour in pairs for size in world.SIZES]
    facts = set()
    for count in (1, 2, 3):
        for chosen in itertools.permutations(things, count):
            distinct = len({thing.pair for thing in chosen}) == count
            if distinct and world.fits(tuple(thing.size for thing in chosen)):
                relations = (None,) if count == 1 else world.RELATIONS
                facts.update(Facts(things=chosen, relation=relation) for relation in relations)
    assert world.count_scenes() == len(facts)


def test_held_out_pairs_cover_every_shape_and_colour_once():
    assert len(world.HELD_OUT) == 8
    assert {shape for shape, _ in world.HELD_OUT} == set(world.SHAPES)
    assert {colour for _, colour in world.HELD_OUT} == set(world.COLOURS)


@pytest.mark.parametrize("split", world.SPLITS)
def test_facts_belong_to_their_split(split):
    for index in range(500):
        facts = world.draw_facts(3, split, index)
        assert world.split_of(facts) == split
        held_out = any(thing.pair in world.HELD_OUT for thing in facts.things)
        assert held_out == (split == "compositional")
        assert len({thing.pair for thing in facts.things}) == len(facts.things)


def test_distinct_attempts_give_distinct_facts_and_extend():
    for split in ("test", "compositional"):
        attempts = world.distinct_attempts(3, split, 300)
        facts = {world.draw_facts(3, split, index, attempt) for index, attempt in enumerate(attempts)}
        assert len(facts) == 300
        assert world.distinct_attempts(3, split, 100) == attempts[:100]
        assert any(attempts)  # single objects do repeat, so the pass has work to do


def test_values_are_all_used_about_equally():
    things = [thing for scene in scenes("train", 1500) for thing in scene.facts.things]
    for attribute, values in (("shape", world.SHAPES), ("colour", world.COLOURS), ("size", world.SIZES)):
        found = [getattr(thing, attribute) for thing in things]
        for value in values:
            assert 0.75 < found.count(value) * len(values) / len(found) < 1.25, value


@pytest.mark.parametrize("moving", [False, True])
def test_relations_hold_and_nothing_overlaps_in_any_frame(moving):
    for scene in scenes("train", 300, moving=moving):
        orders = set()
        for frame in range(world.FRAMES):
            centres = scene.centres_at(frame)
            radii = [world.DIAMETERS[thing.size] / 2 for thing in scene.facts.things]
            for (x, y), radius in zip(centres, radii, strict=True):
                assert radius <= x <= world.SIDE - radius
                assert radius <= y <= world.SIDE - radius
            for i, j in itertools.combinations(range(len(centres)), 2):
                dx, dy = centres[j][0] - centres[i][0], centres[j][1] - centres[i][1]
                assert (dx**2 + dy**2) ** 0.5 > radii[i] + radii[j]
                along, across = (dx, dy) if scene.facts.relation == "left of" else (dy, dx)
                assert along > abs(across)
                assert abs(dx) >= 3
            orders.add(tuple(sorted(range(len(centres)), key=lambda k: centres[k][0])))
        assert len(orders) == 1


def test_left_to_right_follows_the_x_positions():
    things = (Thing("star", "red", "small"), Thing("ring", "blue", "small"))
    scene = world.Scene(
        facts=Facts(things=things, relation="above"),
        centres=((40.0, 10.0), (20.0, 40.0)),
        motions=("nowhere", "left"),
        background=0,
        identity=(0, 0, 0, 0),
    )
    assert scene.left_to_right == things[::-1]
    assert scene.centres_at(3) == [(40.0, 10.0), (20.0 - 3 * world.SPEED, 40.0)]


def test_moving_scenes_have_every_motion():
    motions = [motion for scene in scenes("train", 200, moving=True) for motion in scene.motions]
    for motion in world.MOTIONS:
        assert motions.count(motion) > 0.1 * len(motions)
    assert {motion for scene in scenes("train", 20) for motion in scene.motions} == {"nowhere"}


def test_a_scene_is_a_function_of_its_identity():
    assert world.draw_scene(3, "train", 7) == world.draw_scene(3, "train", 7)
    others = [
        world.draw_scene(4, "train", 7),
        world.draw_scene(3, "train", 8),
        world.draw_scene(3, "test", 7),
    ]
    assert world.draw_scene(3, "train", 7) not in others


def test_every_combination_of_sizes_that_fits_can_be_placed():
    pairs = world.SEEN[:3]
    for count in (1, 2, 3):
        for sizes in filter(world.fits, itertools.product(world.SIZES, repeat=count)):
            things = tuple(Thing(*pair, size) for pair, size in zip(pairs, sizes, strict=False))
            for relation in world.RELATIONS if count > 1 else (None,):
                facts = Facts(things=things, relation=relation)
                rng = world._generator((0, 0, 0, 0), "test")
                tries = [world._place(facts, ("nowhere",) * count, rng) for _ in range(20)]
                assert sum(centres is not None for centres in tries) >= 10, facts


def test_a_larger_share_of_clips_only_adds():
    few = {index for index in range(2000) if world.is_clip(3, "train", index, 0.1)}
    many = {index for index in range(2000) if world.is_clip(3, "train", index, 0.3)}
    assert few < many
    assert 150 < len(few) < 250
    assert not any(world.is_clip(3, "train", index, 0.0) for index in range(100))
    assert all(world.is_clip(3, "train", index, 1.0) for index in range(100))
