"""Pictures of any shape on canvases of a few: which one, and what of it they cover. Sizes are height and width.

How a picture is cut, how many places are held for it and which features stand there must agree to the last one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence


def best_resolution(size: tuple[int, int], resolutions: Sequence[Sequence[int]]) -> tuple[int, int]:
    """The resolution in which most pixels of the original of this ``size`` are kept, and of these the one that leaves
    least empty; the first of several.
    """

    def merit(resolution: Sequence[int]) -> tuple[int, int]:
        scale = min(resolution[1] / size[1], resolution[0] / size[0])
        kept = min(int(size[1] * scale) * int(size[0] * scale), math.prod(size))
        return kept, kept - math.prod(resolution)

    rows, columns = max(resolutions, key=merit)
    return rows, columns


def covered(grid: Sequence[int], size: tuple[int, int]) -> tuple[slice, slice]:
    """The rows and columns of ``grid`` that show the original of this ``size``, put into its middle."""
    (rows, columns), (height, width) = grid, size
    if width / height > columns / rows:
        return _middle(rows, height * (columns / width)), slice(0, columns)
    return slice(0, rows), _middle(columns, width * (rows / height))


def _middle(places: int, length: float) -> slice:
    """What is short of a whole place by rounding alone counts as one."""
    margin = (places - int(round(length, 7))) // 2
    return slice(margin, places - margin)
