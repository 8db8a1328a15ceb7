"""A large picture as several tiles that an encoder reads one by one, and the whole picture beside them.

Each class is one rule, a last step of ``Image.geometry``: it gives uint8 [tiles, height, width, 3], tiles row by row,
and its ``layout`` says what their number does not. The first four give the same bytes as the Pillow processors of
transformers.
"""

from __future__ import annotations

import math
from typing import final

import numpy as np
from jaxtyping import UInt8

from ..core import ConfigError
from ..core.canvas import best_resolution
from .geometry import LongestEdge, Step, check_sides, checked_filter, resized

_MOST_TILES = 4096  # of one picture


@final
class AnyResolution(Step):
    """The canvas, of ``resolutions``, that shows most of the picture and wastes least; the picture is put into its
    middle, on black, and cut into squares of ``side`` pixels. The whole picture, warped to such a square, comes first
    (LLaVA-NeXT, Liu et al. 2024).

    ``resolutions`` are pairs of height and width in pixels, multiples of ``side``. The layout is the original height
    and width in pixels.
    """

    def __init__(self, *, side: int, resolutions: list[list[int]], resample: str = "bicubic") -> None:
        check_sides("AnyResolution", side=side)
        self.resample = checked_filter("AnyResolution", resample)
        if not resolutions or not all(
            len(pair) == 2 and all(length > 0 and length % side == 0 for length in pair)
            for pair in resolutions
        ):
            raise ConfigError(
                f"AnyResolution.resolutions must be pairs of multiples of {side}, found {resolutions}"
            )
        _check_tiles("AnyResolution", max(math.prod(pair) for pair in resolutions) // side**2)
        self.side, self.resolutions, self.shape = side, resolutions, (1, side, side, 3)

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "tiles side side 3"]:
        height, width = picture.shape[:2]
        rows, columns = self.resolution(height, width)
        if columns / width < rows / height:
            inner = min(math.ceil(height * (columns / width)), rows), columns
        else:
            inner = rows, min(math.ceil(width * (rows / height)), columns)
        canvas = np.zeros((rows, columns, 3), np.uint8)
        top, left = (rows - inner[0]) // 2, (columns - inner[1]) // 2
        shown = resized(picture, *inner, self.resample)
        canvas[top : top + inner[0], left : left + inner[1]] = shown
        whole = resized(picture, self.side, self.side, self.resample)
        return np.concatenate([whole[None], _cut(canvas, self.side, self.side)])

    def layout(self, height: int, width: int) -> tuple[int, int]:
        return height, width

    def resolution(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the canvas for a picture of this height and width."""
        return best_resolution((height, width), self.resolutions)


@final
class AspectGrid(Step):
    """The grid of ``least`` to ``most`` tiles whose shape is nearest to the picture's; the picture is warped to it
    and cut. If there is more than one tile, the whole picture, warped to a tile, comes last (InternVL 1.5, Chen et
    al. 2024, arXiv:2404.16821).

    Of grids equally near, the larger is taken while the picture has more than half of its pixels. The layout is the
    rows and columns of the grid.
    """

    def __init__(
        self, *, height: int, width: int, least: int = 1, most: int = 12, resample: str = "bicubic"
    ) -> None:
        check_sides("AspectGrid", height=height, width=width, least=least)
        self.resample = checked_filter("AspectGrid", resample)
        if most < least:
            raise ConfigError(f"AspectGrid.most must be at least {least}, found {most}")
        _check_tiles("AspectGrid", most)
        self.height, self.width = height, width
        self.side, self.shape = min(height, width), (1, height, width, 3)
        grids = [(rows, columns) for columns in range(1, most + 1) for rows in range(1, most // columns + 1)]
        self._grids = sorted((grid for grid in grids if math.prod(grid) >= least), key=math.prod)

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "tiles height width 3"]:
        rows, columns = self.layout(*picture.shape[:2])
        canvas = resized(picture, rows * self.height, columns * self.width, self.resample)
        tiles = _cut(canvas, self.height, self.width)
        if len(tiles) == 1:
            return tiles
        return np.concatenate([tiles, resized(picture, self.height, self.width, self.resample)[None]])

    def layout(self, height: int, width: int) -> tuple[int, int]:
        best, nearest = self._grids[0], math.inf
        for rows, columns in self._grids:
            distance = abs(width / height - columns / rows)
            large = height * width > 0.5 * self.height * self.width * rows * columns
            if distance < nearest or (distance == nearest and large):
                best, nearest = (rows, columns), distance
        return best


@final
class EdgeGrid(Step):
    """The picture with its longer side at ``longest`` pixels (see ``LongestEdge``), then both up to whole tiles of
    ``side`` pixels, and cut. The whole picture, warped to a tile, comes last (Idefics3, Laurençon et al. 2024,
    arXiv:2408.12637; SmolVLM, Marafioti et al. 2025, arXiv:2504.05299).

    What fits into one tile is that tile alone. The layout is the rows and columns of the grid; (0, 0) for one tile.
    """

    def __init__(self, *, side: int, longest: int, resample: str = "lanczos") -> None:
        check_sides("EdgeGrid", side=side, longest=longest)
        self._scale = LongestEdge(size=longest, resample=resample)
        _check_tiles("EdgeGrid", math.ceil(self._scale.side / side) ** 2)
        self.resample, self.side, self.longest = resample, side, longest
        self.shape = (1, side, side, 3)

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "tiles side side 3"]:
        canvas = resized(self._scale(picture), *self.canvas(*picture.shape[:2]), self.resample)
        tiles = _cut(canvas, self.side, self.side)
        if len(tiles) == 1:
            return tiles
        return np.concatenate([tiles, resized(canvas, self.side, self.side, self.resample)[None]])

    def layout(self, height: int, width: int) -> tuple[int, int]:
        rows, columns = (length // self.side for length in self.canvas(height, width))
        return (rows, columns) if rows * columns > 1 else (0, 0)

    def canvas(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of what is cut, for a picture of this height and width."""
        height, width = self._scale.size(height, width)
        ratio = width / height
        if width >= height:
            width = self._whole(width)
            return self._whole(int(width / ratio)), width
        height = self._whole(height)
        return height, self._whole(int(height * ratio))

    def _whole(self, length: int) -> int:
        return math.ceil(length / self.side) * self.side


@final
class PanAndScan(Step):
    """The whole picture, warped to ``height`` x ``width``, then up to ``most`` equal parts of it along its longer side,
    warped alike (Gemma 3, Gemma team 2025, arXiv:2503.19786).

    There are as many parts as the sides' ratio, rounded, if that ratio is at least ``ratio`` and no side of a part is
    below ``least`` pixels; else none.
    """

    def __init__(
        self,
        *,
        height: int,
        width: int,
        least: int = 256,
        most: int = 4,
        ratio: float = 1.2,
        resample: str = "bilinear",
    ) -> None:
        check_sides("PanAndScan", height=height, width=width, most=most)
        self.resample = checked_filter("PanAndScan", resample)
        _check_tiles("PanAndScan", most)
        if least < most:
            raise ConfigError(
                f"PanAndScan.least must be at least the number of parts ({most}), found {least}"
            )
        self.height, self.width = height, width
        self.least, self.most, self.ratio = least, most, ratio
        self.side, self.shape = min(height, width), (1, height, width, 3)

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "tiles height width 3"]:
        shown = [picture, *self._parts(picture)]
        return np.stack([resized(part, self.height, self.width, self.resample) for part in shown])

    def _parts(self, picture: UInt8[np.ndarray, "h w 3"]) -> list[UInt8[np.ndarray, "h w 3"]]:
        height, width = picture.shape[:2]
        shorter, longer = sorted((height, width))
        if longer / shorter < self.ratio:
            return []
        count = min(math.floor(longer / shorter + 0.5), longer // self.least)
        count = min(max(2, count), self.most)
        length = math.ceil(longer / count)
        if min(length, shorter) < self.least:
            return []
        starts = range(0, count * length, length)
        if width >= height:
            return [picture[:, start : start + length] for start in starts]
        return [picture[start : start + length] for start in starts]


@final
class FixedWindows(Step):
    """The picture warped to ``height`` x ``width`` and cut into windows of ``side`` pixels, then the whole picture
    warped to a window (Monkey, Li et al. 2023, arXiv:2311.06607).

    The layout is the rows and columns of the windows, the same for every picture.
    """

    def __init__(
        self, *, height: int = 896, width: int = 1344, side: int = 448, resample: str = "bicubic"
    ) -> None:
        check_sides("FixedWindows", height=height, width=width, side=side)
        self.resample = checked_filter("FixedWindows", resample)
        if height % side or width % side:
            raise ConfigError(
                f"FixedWindows: height and width must be multiples of {side}, found {height} and {width}"
            )
        _check_tiles("FixedWindows", (height // side) * (width // side))
        self.height, self.width, self.side = height, width, side
        self.shape = (height // side * (width // side) + 1, side, side, 3)

    def __call__(self, picture: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "tiles side side 3"]:
        windows = _cut(resized(picture, self.height, self.width, self.resample), self.side, self.side)
        return np.concatenate([windows, resized(picture, self.side, self.side, self.resample)[None]])

    def layout(self, height: int, width: int) -> tuple[int, int]:
        return self.height // self.side, self.width // self.side


def _cut(
    canvas: UInt8[np.ndarray, "h w 3"], height: int, width: int
) -> UInt8[np.ndarray, "tiles height width 3"]:
    """Tiles of this size, row by row."""
    rows, columns = canvas.shape[0] // height, canvas.shape[1] // width
    tiles = canvas.reshape(rows, height, columns, width, 3).swapaxes(1, 2)
    return tiles.reshape(-1, height, width, 3)


def _check_tiles(owner: str, most: int) -> None:
    if most > _MOST_TILES:
        raise ConfigError(f"{owner}: up to {most:,} tiles of one picture, the limit is {_MOST_TILES:,}")
