"""Pictures show what the scene says: colours, sizes, smooth edges, motion."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from sensorium.data.world import render
from sensorium.data.world.scene import (
    BACKGROUNDS,
    COLOURS,
    DIAMETERS,
    SHAPES,
    SIDE,
    SIZES,
    Facts,
    Scene,
    Thing,
    draw_scene,
)


def single(thing: Thing, *, background: int = 0, centre: tuple[float, float] = (32.0, 32.0)) -> Scene:
    return Scene(
        facts=Facts(things=(thing,), relation=None),
        centres=(centre,),
        motions=("nowhere",),
        background=background,
        identity=(0, 0, 0, 0),
    )


def distance(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    return float(np.linalg.norm(np.subtract(one, other)))


def test_palette_is_well_apart_from_itself_and_from_every_background():
    assert set(render.PALETTE) == set(COLOURS)
    assert min(distance(a, b) for a, b in itertools.combinations(render.PALETTE.values(), 2)) > 80
    tones = {tone for pair in render.TONES for tone in pair}
    assert min(distance(a, b) for a in render.PALETTE.values() for b in tones) > 80


@pytest.mark.parametrize("background", range(BACKGROUNDS))
def test_picture_is_noise_around_the_drawing(background):
    scene = single(Thing("heart", "red", "big"), background=background)
    error = render.picture(scene).astype(float) - render.draw(scene)
    assert render.picture(scene).shape == (SIDE, SIDE, 3)
    assert 0.5 < error.std() < 5
    assert abs(error.mean()) < 0.5


def test_every_object_shows_its_colour_where_it_is_solid():
    for index in range(200):
        scene = draw_scene(5, "train", index)
        picture = render.picture(scene).astype(float)
        for thing, (x, y) in zip(scene.facts.things, scene.centres, strict=True):
            mask = render.coverage(thing.shape, thing.size, x % 1, y % 1)
            half = len(mask) // 2
            rows, columns = np.nonzero(mask == 1)
            rows, columns = rows + int(y) - half, columns + int(x) - half
            colour = picture[rows, columns].mean(axis=0)
            nearest = min(COLOURS, key=lambda name: np.linalg.norm(colour - render.PALETTE[name]))
            assert nearest == thing.colour
            assert np.linalg.norm(colour - render.PALETTE[thing.colour]) < 10


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_are_smooth_and_sizes_far_apart(shape):
    areas = []
    for size in SIZES:
        mask = render.coverage(shape, size, 0.25, 0.5)
        assert np.any((mask > 0.1) & (mask < 0.9))
        assert np.any(mask == 1)
        shifted = render.coverage(shape, size, 0.75, 0.75)
        assert shifted.sum() == pytest.approx(mask.sum(), abs=1.5)  # the window cuts nothing off
        areas.append(mask.sum())
    assert areas[1] > 1.7 * areas[0]
    assert areas[2] > 1.7 * areas[1]


@pytest.mark.parametrize("size", SIZES)
def test_shapes_are_far_apart_at_every_size(size):
    masks = {shape: render.coverage(shape, size, 0.0, 0.0) for shape in SHAPES}
    for one, other in itertools.combinations(SHAPES, 2):
        overlap = np.minimum(masks[one], masks[other]).sum() / np.maximum(masks[one], masks[other]).sum()
        assert overlap < 0.85, (one, other)


def test_shapes_stay_within_their_disc():
    for shape, size in itertools.product(SHAPES, SIZES):
        mask = render.coverage(shape, size, 0.0, 0.0)
        middle = np.arange(len(mask)) + 0.5 - len(mask) / 2
        nearest = np.hypot(np.abs(middle[:, None]) - 0.5, np.abs(middle[None]) - 0.5)
        assert not mask[nearest > DIAMETERS[size] / 2 + 0.25].any(), shape


def test_an_object_is_drawn_around_its_centre():
    scene = single(Thing("circle", "blue", "medium"), centre=(20.25, 41.5))
    painted = np.abs(
        render.draw(scene) - render.draw(single(Thing("circle", "blue", "medium"), centre=(55.0, 9.0)))
    )
    weights = painted.sum(axis=-1)
    weights[:, 40:] = 0
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    assert np.average(columns, weights=weights) == pytest.approx(20.25, abs=0.05)
    assert np.average(rows, weights=weights) == pytest.approx(41.5, abs=0.05)


def test_an_object_at_the_border_is_not_wrapped_or_lost():
    scene = single(Thing("circle", "red", "big"), centre=(12.5, 51.5))
    middle = single(Thing("circle", "red", "big"), centre=(32.5, 32.5))
    background = render.draw(single(Thing("star", "red", "small")))[0, 0]
    painted = [np.any(render.draw(s) != background, axis=-1).sum() for s in (scene, middle)]
    assert painted[0] == painted[1]


def test_clip_moves_as_the_scene_says():
    things = (Thing("circle", "red", "small"),)
    scene = Scene(Facts(things, None), ((20.0, 20.0),), ("right",), 0, (0, 0, 0, 0))
    frames = render.clip(scene)
    assert frames.shape == (8, SIDE, SIDE, 3)
    columns = np.arange(SIDE) + 0.5
    red = (frames[..., 0].astype(float) - frames[..., 1] > 100).sum(axis=1)
    middles = [np.average(columns, weights=weights) for weights in red]
    assert np.diff(middles) == pytest.approx(np.ones(7), abs=0.2)


def test_noise_is_the_scenes_own():
    scene = draw_scene(0, "train", 1)
    assert np.array_equal(render.picture(scene), render.picture(scene))
    frames = render.clip(single(Thing("star", "red", "small")))
    assert not np.array_equal(frames[0], frames[1])
