"""Pictures and clips of scenes: anti-aliased shapes on plain or graded backgrounds with mild noise."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from .scene import BACKGROUNDS, DIAMETERS, FRAMES, SIDE, Scene

# 8-bit RGB
PALETTE = {
    "red": (220, 25, 35),
    "orange": (255, 130, 0),
    "yellow": (255, 220, 20),
    "green": (30, 150, 50),
    "cyan": (0, 200, 220),
    "blue": (35, 75, 235),
    "purple": (125, 40, 175),
    "pink": (255, 115, 195),
}
_LIGHT = ((238, 238, 236), (240, 230, 212), (214, 226, 236), (222, 232, 216))
_DARK = ((26, 28, 34), (22, 30, 44), (40, 32, 30), (52, 54, 58))
# (start, end) tones, interpolated from top to bottom; equal ones are plain.
TONES = (
    *((tone, tone) for tone in (*_LIGHT, *_DARK)),
    (_LIGHT[1], _LIGHT[2]),
    (_LIGHT[3], _LIGHT[0]),
    (_DARK[1], _DARK[3]),
    (_DARK[3], _DARK[2]),
)
assert len(TONES) == BACKGROUNDS

_NOISE = 3.0  # standard deviation, in 8-bit grey levels
_SUPERSAMPLING = 8

Grid = np.ndarray


def _star(x: Grid, y: Grid) -> Grid:
    """Five points: fold the plane into half a point, then test one edge."""
    radius = np.hypot(x, y)
    angle = np.abs((np.arctan2(x, y) + np.pi / 5) % (2 * np.pi / 5) - np.pi / 5)
    u, v = radius * np.cos(angle), radius * np.sin(angle)
    inner_u, inner_v = 0.45 * np.cos(np.pi / 5), 0.45 * np.sin(np.pi / 5)
    return (u - 1) * inner_v - v * (inner_u - 1) <= 0


def _heart(x: Grid, y: Grid) -> Grid:
    """Two lobes, and the tangents to them from a tip at (0, -0.96)."""
    lobes = np.hypot(np.abs(x) - 0.45, y - 0.3) <= 0.46
    point = (np.abs(x) <= 0.832 * (np.minimum(y, 0) + 0.96)) & (y <= 0.25)
    return lobes | point


# Inside tests on the unit disc, x to the right and y upwards.
OUTLINES: dict[str, Callable[[Grid, Grid], Grid]] = {
    "circle": lambda x, y: np.hypot(x, y) <= 0.92,
    "square": lambda x, y: np.maximum(np.abs(x), np.abs(y)) <= 0.72,
    "triangle": lambda x, y: (y >= -0.55) & (np.abs(x) <= 0.54 * (1 - y)),
    "star": _star,
    "ring": lambda x, y: (np.hypot(x, y) <= 1) & (np.hypot(x, y) >= 0.58),
    "cross": lambda x, y: (
        (np.minimum(np.abs(x), np.abs(y)) <= 0.3) & (np.maximum(np.abs(x), np.abs(y)) <= 0.96)
    ),
    "heart": _heart,
    "moon": lambda x, y: (np.hypot(x, y) <= 1) & (np.hypot(x - 0.5, y) >= 0.74),
}


@cache
def coverage(shape: str, size: str, dx: float, dy: float) -> np.ndarray:
    """The share of each pixel that a shape covers, Float32[w, w], 0 .. 1.

    The shape's centre lies dx to the right of the middle and dy below it: fractions of a pixel on the scene's
    grid, so that the cache stays small (a few hundred masks).
    """
    radius = DIAMETERS[size] / 2
    half = int(np.ceil(radius)) + 1
    fine = (np.arange(2 * half * _SUPERSAMPLING) + 0.5) / _SUPERSAMPLING - half
    x, y = np.meshgrid((fine - dx) / radius, -(fine - dy) / radius)
    inside = OUTLINES[shape](x, y).astype(np.float32)
    return inside.reshape(2 * half, _SUPERSAMPLING, 2 * half, _SUPERSAMPLING).mean(axis=(1, 3))


@cache
def _backdrop(background: int) -> np.ndarray:
    start, end = (np.array(tone, np.float32) for tone in TONES[background])
    share = np.linspace(0, 1, SIDE, dtype=np.float32)[:, None, None]
    return np.broadcast_to(start + (end - start) * share, (SIDE, SIDE, 3))


def draw(scene: Scene, frame: int = 0) -> np.ndarray:
    """One frame without noise: Float32[SIDE, SIDE, 3] in 8-bit RGB levels. Frame 0 is the still picture."""
    canvas = _backdrop(scene.background).copy()
    for thing, (x, y) in zip(scene.facts.things, scene.centres_at(frame), strict=True):
        left, top = int(x), int(y)
        mask = coverage(thing.shape, thing.size, x - left, y - top)
        half = len(mask) // 2
        # The mask has a border that may reach beyond the picture; what it would cover there is empty.
        rows = slice(max(top - half, 0), min(top + half, SIDE))
        columns = slice(max(left - half, 0), min(left + half, SIDE))
        window = canvas[rows, columns]
        alpha = mask[
            rows.start - top + half : rows.stop - top + half,
            columns.start - left + half : columns.stop - left + half,
        ]
        window += alpha[..., None] * (np.array(PALETTE[thing.colour], np.float32) - window)
    return canvas


def picture(scene: Scene) -> np.ndarray:
    """The still picture, UInt8[SIDE, SIDE, 3]."""
    return _expose(draw(scene), scene.generator("picture"))


def clip(scene: Scene) -> np.ndarray:
    """The clip, UInt8[FRAMES, SIDE, SIDE, 3]; the noise of each frame is its own."""
    rng = scene.generator("clip")
    return np.stack([_expose(draw(scene, frame), rng) for frame in range(FRAMES)])


def _expose(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    grain = rng.standard_normal((SIDE, SIDE, 1), dtype=np.float32)
    return np.clip(canvas + _NOISE * grain + 0.5, 0, 255).astype(np.uint8)
