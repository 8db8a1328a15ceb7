"""Line charts as inline SVG, drawn by the colours of the page, with the values for its pointer script."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup, escape

Point = tuple[float, float]

COLOURS = 8  # classes c0 to c7 of the style sheet
_WIDTH, _HEIGHT = 480, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 10, 10, 28
_MOST_POINTS = 240
_SPANS = 60  # a smoothed value looks back about this fraction of the run


@dataclass(frozen=True)
class Line:
    """A curve; ``raw`` is drawn faintly behind it, ``dots`` marks each point of a sparse one."""

    name: str
    points: Sequence[Point]
    raw: Sequence[Point] = ()
    dots: bool = False


def smooth(points: Sequence[Point]) -> list[Point]:
    """Exponential moving average without the bias towards its start (Kingma & Ba 2015, section 3)."""
    keep = 1 - 1 / max(1.0, len(points) / _SPANS)
    average, weight, found = 0.0, 0.0, []
    for x, y in points:
        average, weight = keep * average + (1 - keep) * y, keep * weight + (1 - keep)
        found.append((x, average / weight))
    return found


def thin(points: Sequence[Point], most: int = _MOST_POINTS) -> list[Point]:
    """At most ``most`` points: the means of equal stretches."""
    if len(points) <= most:
        return list(points)
    edges = [len(points) * i // most for i in range(most + 1)]
    stretches = [points[start:stop] for start, stop in pairwise(edges)]
    return [tuple(math.fsum(axis) / len(part) for axis in zip(*part, strict=True)) for part in stretches]  # type: ignore[misc]


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers within [low, high], at most ``most`` steps apart."""
    if high <= low:
        return [low]
    size = 10 ** math.floor(math.log10((high - low) / most))
    step = next(size * k for k in (1, 2, 2.5, 5, 10) if (high - low) / (size * k) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def number(value: float) -> str:
    """A number for an axis or a legend: three figures, thousands as k, small ones with an exponent."""
    if value == 0:
        return "0"
    if abs(value) < 0.01:
        digits, _, power = f"{value:.2e}".partition("e")
        return f"{float(digits):g}e{int(power)}"
    if abs(value) >= 10_000:
        return f"{value / 1000:.3g}k"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def chart(
    title: str,
    lines: Sequence[Line],
    *,
    note: str = "",
    low: float | None = None,
    high: float | None = None,
    percent: bool = False,
) -> Markup:
    """A figure with a legend; ``low`` and ``high`` fix the vertical axis. Nothing if no line has a point.

    Values that are not finite are left out.
    """
    lines = [line for line in map(_finite, lines) if line.points]
    if not lines:
        return Markup("")
    every = [point for line in lines for point in (*line.points, *line.raw)]
    left, right = min(x for x, _ in every), max(x for x, _ in every)
    bottom = min(y for _, y in every) if low is None else low
    top = max(y for _, y in every) if high is None else high
    if top <= bottom:
        bottom, top = bottom - (abs(bottom) or 1) / 2, top + (abs(top) or 1) / 2
    frame = _Frame(left, right if right > left else left + 1, bottom, top)
    show = _percent if percent else number
    parts = [_axes(frame, show)]
    parts += [_curve(frame, line, i % COLOURS) for i, line in enumerate(lines)]
    keys = Markup("").join(
        Markup('<span class="key"><i class="c{}"></i>{} <b>{}</b></span>').format(
            i % COLOURS, line.name, show(line.points[-1][1])
        )
        for i, line in enumerate(lines)
    )
    return Markup(
        '<figure class="chart"><figcaption><h3>{}</h3>{}<p class="keys">{}</p></figcaption>'
        '<svg viewBox="0 0 {} {}" role="img" aria-label="{}" data-frame="{}"{}>{}'
        '<line class="cursor" y1="{}" y2="{}" hidden></line></svg></figure>'
    ).format(
        title,
        Markup('<p class="note">{}</p>').format(note) if note else "",
        keys,
        _WIDTH,
        _HEIGHT,
        title,
        " ".join(f"{v:.6g}" for v in (_LEFT, _WIDTH - _RIGHT, frame.left, frame.right)),
        Markup(" data-percent") if percent else "",
        Markup("").join(parts),
        _TOP,
        _HEIGHT - _BOTTOM,
    )


@dataclass(frozen=True)
class _Frame:
    """From values to places in the drawing."""

    left: float
    right: float
    bottom: float
    top: float

    def x(self, value: float) -> float:
        return _LEFT + (value - self.left) / (self.right - self.left) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        inside = min(max(value, self.bottom), self.top)
        return (
            _HEIGHT - _BOTTOM - (inside - self.bottom) / (self.top - self.bottom) * (_HEIGHT - _TOP - _BOTTOM)
        )

    def path(self, points: Sequence[Point]) -> str:
        return " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)


def _finite(line: Line) -> Line:
    def kept(points: Sequence[Point]) -> list[Point]:
        return [point for point in points if math.isfinite(point[1])]

    return Line(line.name, kept(line.points), kept(line.raw), line.dots)


def _percent(value: float) -> str:
    return f"{100 * value:.3g} %"


def _axes(frame: _Frame, show: Callable[[float], str]) -> Markup:
    across = [
        Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{:.1f}" y2="{:.1f}"/>'
            '<text x="{}" y="{:.1f}" class="y">{}</text>'
        ).format(_LEFT, _WIDTH - _RIGHT, frame.y(v), frame.y(v), _LEFT - 6, frame.y(v) + 4, show(v))
        for v in ticks(frame.bottom, frame.top, 5)
    ]
    along = [
        Markup('<text x="{:.1f}" y="{}" class="{}">{}</text>').format(
            frame.x(v), _HEIGHT - 10, "last" if frame.x(v) > _WIDTH - _RIGHT - 20 else "x", number(v)
        )
        for v in ticks(frame.left, frame.right, 5)
    ]
    return Markup("").join(across + along)


def _curve(frame: _Frame, line: Line, colour: int) -> Markup:
    values = " ".join(f"{x:.6g},{y:.4g}" for x, y in line.points)
    raw = (
        Markup('<polyline class="raw c{}" points="{}"/>').format(colour, frame.path(line.raw))
        if line.raw
        else ""
    )
    dots = [
        Markup('<circle class="c{}" cx="{:.1f}" cy="{:.1f}" r="3"/>').format(colour, frame.x(x), frame.y(y))
        for x, y in (line.points if line.dots or len(line.points) == 1 else ())
    ]
    curve = Markup('<polyline class="curve c{}" data-name="{}" data-values="{}" points="{}"/>').format(
        colour, escape(line.name), values, frame.path(line.points)
    )
    return Markup("{}{}{}").format(raw, curve, Markup("").join(dots))
