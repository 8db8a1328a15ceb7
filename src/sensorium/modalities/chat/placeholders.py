"""What stands for a medium among the words: one token for each row of features that will be put in their place."""

from __future__ import annotations

import abc
import math
from typing import final

from torch import Tensor

from ...core import ConfigError
from ...core.canvas import covered
from ..tiles import AnyResolution


class Placeholder(abc.ABC):
    """``written`` is what a chat template writes for one medium, ``token`` what holds the place of one row."""

    written: str
    token: str

    @abc.abstractmethod
    def expand(self, values: Tensor, layout: tuple[int, ...] | None) -> list[str]:
        """What takes the place of ``written`` for a medium of these prepared values: text and special tokens."""


@final
class Repeated(Placeholder):
    """``before``, so many of ``token``, ``after``: a fixed ``count`` (LLaVA, Gemma 3), or one per prepared value."""

    def __init__(
        self, *, written: str, token: str, count: int | None = None, before: str = "", after: str = ""
    ) -> None:
        _check(written=written, token=token)
        if count is not None and count < 1:
            raise ConfigError(f"Repeated.count must be at least 1, found {count}")
        self.written, self.token, self.count = written, token, count
        self.before, self.after = before, after

    def expand(self, values: Tensor, layout: tuple[int, ...] | None) -> list[str]:
        return _framed(self.before, [self.token] * (self.count or len(values)), self.after)


@final
class PerPiece(Placeholder):
    """``count`` of ``token`` for each piece of a medium, as a tile or a frame: InternVL, Video-LLaVA."""

    def __init__(self, *, written: str, token: str, count: int, before: str = "", after: str = "") -> None:
        _check(written=written, token=token)
        if count < 1:
            raise ConfigError(f"PerPiece.count must be at least 1, found {count}")
        self.written, self.token, self.count = written, token, count
        self.before, self.after = before, after

    def expand(self, values: Tensor, layout: tuple[int, ...] | None) -> list[str]:
        return _framed(self.before, [self.token] * (self.count * len(values)), self.after)


@final
class Numbered(Placeholder):
    """``count`` of ``token`` for each piece of a medium, in a line of its own, after ``before`` with the number of the
    ``{piece}``: the frames of clips of InternVL.
    """

    def __init__(self, *, written: str, token: str, count: int, before: str, after: str = "") -> None:
        _check(written=written, token=token)
        if count < 1:
            raise ConfigError(f"Numbered.count must be at least 1, found {count}")
        self.written, self.token, self.count = written, token, count
        self.before, self.after = before, after

    def expand(self, values: Tensor, layout: tuple[int, ...] | None) -> list[str]:
        lines: list[str] = []
        for piece in range(1, len(values) + 1):
            line = _framed(self.before.format(piece=piece), [self.token] * self.count, self.after)
            lines += [*(["\n"] if lines else []), *line]
        return lines


@final
class Strided(Placeholder):
    """``count`` of ``token`` for each ``stride`` prepared values along the first axis, or a part of them: encoders
    whose tokens are patches of a grid as long as the medium.
    """

    def __init__(self, *, written: str, token: str, stride: int, count: int = 1) -> None:
        _check(written=written, token=token)
        if stride < 1 or count < 1:
            raise ConfigError(f"Strided needs a stride and a count of at least 1, found {stride} and {count}")
        self.written, self.token, self.stride, self.count = written, token, stride, count

    def expand(self, values: Tensor, layout: tuple[int, ...] | None) -> list[str]:
        return [self.token] * (-(-len(values) // self.stride) * self.count)


@final
class SpaceTime(Placeholder):
    """One ``token`` for each frame of a clip, and ``places`` more, one for each place of a frame: Video-ChatGPT."""

    def __init__(self, *, written: str, token: str, places: int, before: str = "", after: str = "") -> None:
        _check(written=written, token=token)
        if places < 1:
            raise ConfigError(f"SpaceTime.places must be at least 1, found {places}")
        self.written, self.token, self.places = written, token, places
        self.before, self.after = before, after

    def expand(self, values: Tensor, layout: tuple[int, ...] | None) -> list[str]:
        return _framed(self.before, [self.token] * (len(values) + self.places), self.after)


@final
class MergedGrid(Placeholder):
    """One ``token`` for each ``merge`` x ``merge`` patches, in a layout of time, rows and columns (and how long a step
    of time is): Qwen-VL.
    """

    def __init__(
        self, *, written: str, token: str, merge: int = 2, before: str = "", after: str = ""
    ) -> None:
        _check(written=written, token=token)
        if merge < 1:
            raise ConfigError(f"MergedGrid.merge must be at least 1, found {merge}")
        self.written, self.token, self.merge = written, token, merge
        self.before, self.after = before, after

    def expand(self, values: Tensor, layout: tuple[int, ...] | None) -> list[str]:
        if layout is None:
            raise ConfigError(
                f"{self.written!r} stands for patches in a grid: the modality must give a layout"
            )
        patches = math.prod(layout[:3])
        if patches % self.merge**2:
            raise ConfigError(f"the layout {layout} is not of whole squares of {self.merge} x {self.merge}")
        return _framed(self.before, [self.token] * (patches // self.merge**2), self.after)


@final
class TileGrid(Placeholder):
    """For a picture in tiles, row by row, ``border``, the mark of its place and ``count`` of ``token`` for each, a line
    break after each row, and one before the whole picture, which has the mark ``whole``; a picture that is one tile
    has that alone (Idefics3, SmolVLM).

    The layout is the rows and columns of tiles. ``place`` is the mark of a tile, with ``{row}`` and ``{column}``.
    """

    def __init__(self, *, written: str, token: str, count: int, border: str, place: str, whole: str) -> None:
        _check(written=written, token=token, border=border, place=place, whole=whole)
        if count < 1:
            raise ConfigError(f"TileGrid.count must be at least 1, found {count}")
        self.written, self.token, self.count = written, token, count
        self.border, self.place, self.whole = border, place, whole

    def expand(self, values: Tensor, layout: tuple[int, ...] | None) -> list[str]:
        rows, columns = layout if layout is not None else (0, 0)
        tiles: list[str] = []
        for row in range(1, rows + 1):
            for column in range(1, columns + 1):
                tiles += self._tile(self.place.format(row=row, column=column))
            tiles.append("\n")
        return [*tiles, *(["\n"] if tiles else []), *self._tile(self.whole), self.border]

    def _tile(self, mark: str) -> list[str]:
        return [self.border, mark, *[self.token] * self.count]


@final
class UnpaddedTiles(Placeholder):
    """One ``token`` for each place of a picture in one tile, then for each that shows it in the grid of all tiles, and
    one at the end of each line of that (LLaVA-NeXT).

    The layout is the original height and width. A tile is ``side`` pixels high and wide and a ``grid`` of places;
    ``resolutions`` are what tiles may fill (see ``tiles.AnyResolution``).
    """

    def __init__(
        self, *, written: str, token: str, grid: list[int], side: int, resolutions: list[list[int]]
    ) -> None:
        _check(written=written, token=token)
        if len(grid) != 2 or min(grid) < 1:
            raise ConfigError(f"UnpaddedTiles.grid must be rows and columns, found {grid}")
        self.written, self.token, self.grid, self.side = written, token, grid, side
        self._tiles = AnyResolution(side=side, resolutions=resolutions)

    def expand(self, values: Tensor, layout: tuple[int, ...] | None) -> list[str]:
        if layout is None:
            raise ConfigError(f"{self.written!r} stands for tiles: the modality must give a layout")
        height, width = layout
        canvas = self._tiles.resolution(height, width)
        whole = [places * (length // self.side) for places, length in zip(self.grid, canvas, strict=True)]
        rows, columns = (part.stop - part.start for part in covered(whole, (height, width)))
        return [self.token] * (math.prod(self.grid) + rows * (columns + 1))


def _framed(before: str, tokens: list[str], after: str) -> list[str]:
    return [*([before] if before else []), *tokens, *([after] if after else [])]


def _check(**strings: str) -> None:
    for name, value in strings.items():
        if len(value) < 2:  # one character cannot be kept apart from what people write
            raise ConfigError(f"a placeholder's {name!r} must have at least 2 characters, found {value!r}")
