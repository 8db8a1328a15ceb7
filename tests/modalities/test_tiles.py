from __future__ import annotations

import numpy as np
import pytest

from sensorium.core import ConfigError, Spec
from sensorium.modalities import Image, Video
from sensorium.modalities.geometry import LongestEdge, PadSquare, Resize, resized
from sensorium.modalities.merged_patches import MergedPatches
from sensorium.modalities.tiles import AnyResolution, AspectGrid, EdgeGrid, FixedWindows, PanAndScan


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def quarters(side=4):
    """Four squares of one level each: 0 and 50 above 100 and 150."""
    levels = np.array([[0, 50], [100, 150]], np.uint8).repeat(side, 0).repeat(side, 1)
    return np.repeat(levels[..., None], 3, -1)


def test_canvas_of_any_resolution():
    step = AnyResolution(side=336, resolutions=[[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]])
    assert step.resolution(336, 672) == (336, 672)
    assert step.resolution(2000, 2000) == (672, 672)
    assert step.resolution(1, 10_000) == (336, 672)
    assert step.layout(30, 40) == (30, 40)


def test_any_resolution_centres_the_picture_on_black():
    step = AnyResolution(side=4, resolutions=[[8, 8]], resample="nearest")
    whole, *tiles = step(np.full((4, 8, 3), 200, np.uint8))
    assert whole.min() == 200
    canvas = np.concatenate([np.concatenate(tiles[:2], 1), np.concatenate(tiles[2:], 1)])
    assert (canvas[:2] == 0).all()
    assert (canvas[2:6] == 200).all()
    assert (canvas[6:] == 0).all()


def test_tiles_are_row_by_row_with_the_whole_picture_last():
    for step in (
        AspectGrid(height=4, width=4, most=4),
        EdgeGrid(side=4, longest=8),
        FixedWindows(height=8, width=8, side=4),
    ):
        tiles = step(quarters())
        assert tiles[:4].mean((1, 2, 3)).tolist() == [0, 50, 100, 150]
        assert np.array_equal(tiles[4], resized(quarters(), 4, 4, step.resample))
        assert step.layout(8, 8) == (2, 2)


def test_one_tile_stays_alone():
    for step, layout in (
        (AspectGrid(height=4, width=4, most=1), (1, 1)),
        (EdgeGrid(side=4, longest=4), (0, 0)),
    ):
        assert step(quarters()).shape == (1, 4, 4, 3)
        assert step.layout(8, 8) == layout


def test_of_grids_equally_near_the_larger_is_taken_for_large_pictures():
    step = AspectGrid(height=10, width=10, most=4)
    assert step.layout(14, 14) == (1, 1)
    assert step.layout(15, 15) == (2, 2)  # more than half of 20 x 20 pixels


def test_windows_of_monkey():
    image = Image(geometry=FixedWindows(), mean=None)
    values = image.prepare(picture(30, 50))
    assert values.shape == image.blank().shape == (7, 448, 448, 3)
    assert image.layout(picture(30, 50)) == (2, 3)
    assert image.layout(picture(500, 5)) == (2, 3)


def test_pan_and_scan_takes_equal_parts_of_long_pictures():
    step = PanAndScan(height=2, width=2, least=4, most=3, resample="nearest")
    wide = np.repeat(np.arange(12, dtype=np.uint8)[None, :, None], 4, 0).repeat(3, 2)
    assert step(wide)[1:].mean((1, 2, 3)).tolist() == [
        2,
        6,
        10,
    ]  # nearest: the 2nd and 4th of each four columns
    tall = wide.swapaxes(0, 1)
    assert step(tall)[1:].mean((1, 2, 3)).tolist() == [2, 6, 10]
    assert len(step(picture(10, 11))) == 1  # nearly a square
    assert len(step(picture(3, 12))) == 1  # parts would be too small
    assert len(step(picture(4, 100))) == 4


def test_the_longest_edge():
    step = LongestEdge(size=100)
    assert step.size(50, 200) == (26, 100)  # 25 made even
    assert step.size(200, 50) == (100, 26)
    assert step.size(1, 10_000) == (1, 100)
    assert LongestEdge(size=8192).size(1000, 2000) == (2048, 4096)
    assert step(picture(50, 200)).shape == (26, 100, 3)


def test_padding_to_a_square():
    padded = PadSquare(colour=[1, 2, 3])(np.zeros((3, 8, 3), np.uint8))
    assert padded.shape == (8, 8, 3)
    assert (padded[2:5] == 0).all()
    assert (padded[:2] == [1, 2, 3]).all()
    assert (padded[5:] == [1, 2, 3]).all()


def test_steps_before_tiles_change_their_layout():
    geometry = [Spec(Resize, height=8, width=24), Spec(EdgeGrid, side=4, longest=12)]
    image = Spec(Image, geometry=geometry, mean=None).build()
    assert image.layout(picture(9, 9)) == (1, 3)
    assert len(image.prepare(picture(9, 9))) == 4


@pytest.mark.parametrize("extent", [(1, 10_000), (10_000, 1), (1, 1)])
def test_strips_and_points(extent):
    steps = [
        AnyResolution(side=8, resolutions=[[8, 16], [24, 8]]),
        AspectGrid(height=8, width=8),
        EdgeGrid(side=8, longest=32),
        PanAndScan(height=8, width=8, least=4),
        FixedWindows(height=16, width=8, side=8),
    ]
    for step in steps:
        tiles = step(picture(*extent))
        assert tiles.dtype == np.uint8
        assert tiles.shape[1:] == (8, 8, 3) == step.shape[1:]
        assert len(tiles) <= 17


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: AnyResolution(side=4, resolutions=[[4, 6]]), "pairs of multiples of 4"),
        (lambda: AnyResolution(side=4, resolutions=[]), "pairs of multiples of 4"),
        (lambda: AnyResolution(side=0, resolutions=[[4, 4]]), "AnyResolution.side must be at least 1"),
        (lambda: AnyResolution(side=1, resolutions=[[100, 100]]), "10,000 tiles of one picture"),
        (lambda: AspectGrid(height=4, width=4, least=3, most=2), "AspectGrid.most"),
        (lambda: AspectGrid(height=4, width=4, most=5000), "5,000 tiles"),
        (lambda: EdgeGrid(side=4, longest=4000), "1,000,000 tiles"),
        (lambda: EdgeGrid(side=4, longest=8, resample="bilinaer"), "did you mean 'bilinear'"),
        (lambda: FixedWindows(height=900), "multiples of 448"),
        (lambda: PanAndScan(height=4, width=4, least=3, most=4), "PanAndScan.least"),
        (lambda: PadSquare(colour=[0, 0, 256]), "three bytes"),
        (
            lambda: Image(geometry=[EdgeGrid(side=4, longest=8), LongestEdge(size=4)], mean=None),
            "must end in a step",
        ),
        (
            lambda: Image(geometry=[EdgeGrid(side=4, longest=8), Resize(height=4, width=4)], mean=None),
            "nothing can follow EdgeGrid",
        ),
        (
            lambda: Image(geometry=EdgeGrid(side=4, longest=8), mean=None, flip=True),
            "flip and shift need whole",
        ),
        (lambda: Image(geometry=MergedPatches()), "patches stay bytes: expected no mean, found 0.5"),
        (lambda: Video(geometry=EdgeGrid(side=4, longest=8), mean=None), "frames must be whole pictures"),
    ],
)
def test_wrong_settings(make, reason):
    with pytest.raises(ConfigError, match=reason):
        make()
