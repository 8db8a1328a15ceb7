"""What stands for a medium."""

from __future__ import annotations

import pytest
import torch
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor

from sensorium.core import ConfigError, Spec
from sensorium.modalities.chat import (
    MergedGrid,
    Numbered,
    PerPiece,
    Placeholder,
    Repeated,
    TileGrid,
    UnpaddedTiles,
)

GEMMA = {
    "written": "<start_of_image>",
    "token": "<image_soft_token>",
    "before": "\n\n<start_of_image>",
    "after": "<end_of_image>\n\n",
}


def test_as_often_as_is_said_or_as_there_are_values():
    values = torch.zeros(3, 4)
    assert Repeated(written="<i>", token="<t>", count=2).expand(values, None) == ["<t>", "<t>"]
    assert Repeated(written="<i>", token="<t>").expand(values, None) == ["<t>"] * 3
    found = PerPiece(written="<i>", token="<t>", count=2, before="a", after="b").expand(values, None)
    assert found == ["a", *["<t>"] * 6, "b"]


def test_gemma():
    class Tokens:
        boi_token, image_token, eoi_token, boi_token_id = (
            "<start_of_image>",
            "<image_soft_token>",
            "<end_of_image>",
            1,
        )

    reference = Gemma3Processor.__new__(Gemma3Processor)
    reference.full_image_sequence = "\n\n<start_of_image>" + "<image_soft_token>" * 256 + "<end_of_image>\n\n"
    found = Repeated(count=256, **GEMMA).expand(torch.zeros(1, 2, 2, 3), None)
    assert "".join(found) == reference.replace_image_token({"num_crops": [0]}, 0)


@pytest.mark.parametrize("layout", [(1, 4, 6), (2, 8, 4), (1, 2, 2)])
def test_qwen(layout):
    reference = Qwen2VLProcessor.__new__(Qwen2VLProcessor)
    reference.image_token = "<|image_pad|>"
    reference.image_processor = type("Processor", (), {"merge_size": 2})()
    found = MergedGrid(written="<|image_pad|>", token="<|image_pad|>").expand(torch.zeros(1, 1), layout)
    grid = {"image_grid_thw": torch.tensor([layout])}
    assert "".join(found) == reference.replace_image_token(grid, 0)


def test_a_grid_must_be_known_and_whole():
    grid = MergedGrid(written="<i>", token="<i>")
    with pytest.raises(ConfigError, match="must give a layout"):
        grid.expand(torch.zeros(4, 1), None)
    with pytest.raises(ConfigError, match=r"\(3, 3\) is not of whole squares of 2 x 2"):
        grid.expand(torch.zeros(9, 1), (3, 3))


@pytest.mark.parametrize(
    ("cls", "settings", "reason"),
    [
        (Repeated, {"count": 0}, "count must be at least 1, found 0"),
        (PerPiece, {"count": 0}, "count must be at least 1, found 0"),
        (MergedGrid, {"merge": 0}, "merge must be at least 1, found 0"),
        (Repeated, {"written": "<"}, "'written' must have at least 2 characters, found '<'"),
        (Repeated, {"token": ""}, "'token' must have at least 2 characters, found ''"),
    ],
)
def test_settings_are_checked(cls, settings, reason):
    with pytest.raises(ConfigError, match=reason):
        cls(**({"written": "<i>", "token": "<i>"} | settings))


def test_they_are_built_from_specs():
    assert isinstance(Spec(Repeated, written="<i>", token="<i>").build(), Placeholder)


TILES = {"written": "<i>", "token": "<t>", "border": "<b>", "place": "<{row}.{column}>", "whole": "<w>"}


def test_tiles_row_by_row_and_the_whole_picture():
    tiles = TileGrid(count=2, **TILES)
    assert tiles.expand(torch.zeros(1), None) == ["<b>", "<w>", "<t>", "<t>", "<b>"]
    found = "".join(tiles.expand(torch.zeros(3), (2, 1)))
    assert found == "<b><1.1><t><t>\n<b><2.1><t><t>\n\n<b><w><t><t><b>"


def test_tiles_without_their_margins():
    """A picture four times as wide as high, in 2 x 1 tiles of 4 x 4 places: 2 of 4 rows show it, each with an end."""
    tiles = UnpaddedTiles(written="<i>", token="<t>", grid=[4, 4], side=8, resolutions=[[8, 16], [16, 8]])
    assert len(tiles.expand(torch.zeros(1), (10, 40))) == 16 + 2 * (8 + 1)
    assert len(tiles.expand(torch.zeros(1), (40, 10))) == 16 + 8 * (2 + 1)
    with pytest.raises(ConfigError, match="must give a layout"):
        tiles.expand(torch.zeros(1), None)


def test_settings_of_tiles_are_checked():
    with pytest.raises(ConfigError, match=r"TileGrid\.count must be at least 1, found 0"):
        TileGrid(count=0, **TILES)
    with pytest.raises(ConfigError, match=r"UnpaddedTiles\.grid must be rows and columns, found \[4\]"):
        UnpaddedTiles(written="<i>", token="<t>", grid=[4], side=8, resolutions=[[8, 16]])


def test_a_line_for_each_frame():
    frames = Numbered(written="<v>", token="<t>", count=2, before="Frame{piece}: <i>", after="</i>")
    found = "".join(frames.expand(torch.zeros(2, 4, 4, 3), None))
    assert found == "Frame1: <i><t><t></i>\nFrame2: <i><t><t></i>"
    with pytest.raises(ConfigError, match=r"Numbered\.count must be at least 1, found 0"):
        Numbered(written="<v>", token="<t>", count=0, before="{piece}")
