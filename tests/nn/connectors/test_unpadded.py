"""Tiles put together without margins, against LLaVA-NeXT of transformers."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
import torch
from nn.connectors.toys import EXACT, INITIALISATIONS, Same, check_no_rows, features, linear
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel

from sensorium.core import ConfigError
from sensorium.core.canvas import best_resolution
from sensorium.nn.connectors.unpadded import Unpadded

SIDE, GRID = 12, 4
RESOLUTIONS = [[12, 24], [24, 12], [24, 24], [36, 12], [12, 36]]
SIZES = [(11, 13), (12, 24), (7, 40), (40, 7), (24, 24), (30, 10), (33, 17), (5, 5), (100, 99), (23, 36)]


def unpadded(connector=None) -> Unpadded:
    connector = connector if connector is not None else Same(6)
    return Unpadded(grid=[GRID, GRID], side=SIDE, resolutions=RESOLUTIONS, connector=connector)


def tiles_of(size: tuple[int, int]) -> int:
    height, width = select_best_resolution(size, RESOLUTIONS)
    return 1 + height // SIDE * (width // SIDE)


@pytest.mark.parametrize("how", INITIALISATIONS)
def test_is_that_of_llava_next(how: str):
    torch.manual_seed(0)
    ours = unpadded().double()
    if how == "random":
        torch.nn.init.normal_(ours.newline)
    given = features([tiles_of(size) * GRID**2 for size in SIZES], 6)
    model = SimpleNamespace(
        config=SimpleNamespace(
            vision_config=SimpleNamespace(image_size=SIDE, patch_size=SIDE // GRID),
            image_grid_pinpoints=RESOLUTIONS,
        )
    )
    expected, lengths = LlavaNextModel.pack_image_features(
        model,
        [x.view(-1, GRID**2, 6) for x in given.segments()],
        torch.tensor(SIZES),
        vision_feature_select_strategy="default",
        image_newline=ours.newline,
    )
    found = ours(given, torch.tensor(SIZES))
    torch.testing.assert_close(found.rows, torch.cat(expected), **EXACT)
    assert found.lengths.tolist() == lengths.tolist()


def test_one_tile_ends_with_the_learned_row():
    ours, given = unpadded().double(), features([16, 48], 6)
    found = ours(given, torch.tensor([[9, 9], [12, 24]]))
    assert torch.equal(found.rows[:16], given.rows[:16])
    assert torch.equal(found.rows[16], ours.newline)
    assert found.lengths.tolist() == [17, 16 + 4 * (8 + 1)]


def test_best_resolution_is_that_of_transformers():
    for size in itertools.product(range(3, 60, 4), repeat=2):
        pairs = [tuple(pair) for pair in RESOLUTIONS]
        assert best_resolution(size, pairs) == select_best_resolution(size, pairs)


def test_no_rows_and_what_cannot_be():
    check_no_rows(unpadded(linear(3)), 3, layout=2)
    check_no_rows(unpadded(linear(3)), 3)
    with pytest.raises(ConfigError, match=r"24 x 24 pixels has 1 \+ 4 tiles of 16 tokens, found 48 tokens"):
        unpadded()(features([48], 6), torch.tensor([[24, 24]]))
    with pytest.raises(ConfigError, match="need a layout"):
        unpadded()(features([48], 6))
    for wrong in ([], [[12, 20]], [[12]]):
        with pytest.raises(ConfigError, match="multiples of the tile, 12"):
            Unpadded(grid=[4, 4], side=12, resolutions=wrong, connector=Same(6))
