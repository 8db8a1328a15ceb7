"""From a run to what the page shows: headline figures, gaps between data sets, curves and galleries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ..metrics import Figure, normalise
from ..protocol import TEXT
from .curves import Line, chart, smooth, thin
from .folder import Evaluated, RunFolder
from .fragments import Shelf
from .words import is_lower_better

_FIRST_WAYS = ((TEXT, "image"), ("audio", "image"))  # of retrieval
_MOST_LINES = 8  # in one chart
_MOST_ROWS = 50  # of quarantined items
_WATCHED, _MOMENTS = 3, 6  # examples followed through training, and how often


@dataclass(frozen=True)
class Row:
    """One metric with a figure (or None) per data set, and how far the last ones are from the first."""

    task: str
    metric: str
    figures: tuple[Figure | None, ...]

    def gap(self, index: int) -> float | None:
        """The difference of a data set from the first."""
        first, other = self.figures[0], self.figures[index]
        return None if first is None or other is None else other.value - first.value

    def is_clear(self, index: int) -> bool:
        """Whether that difference is larger than the two intervals together explain."""
        first, other = self.figures[0], self.figures[index]
        if first is None or other is None:
            return False
        reach = ((first.high - first.low) ** 2 + (other.high - other.low) ** 2) ** 0.5 / 2
        return abs(other.value - first.value) > reach


@dataclass(frozen=True)
class Gap:
    """How the headline figures of one data set differ from those of the first, over ``rows``."""

    index: int
    rows: int
    mean: float
    clear: int
    largest: Row


@dataclass(frozen=True)
class Watched:
    """One example as the model answered it at some steps of training: (step, text, whether right)."""

    key: str
    prompt: str
    expected: str
    moments: tuple[tuple[int, str, bool], ...]


def headline(evaluations: Sequence[Evaluated]) -> list[Row]:
    """The first metric of each task; modality reliance has a table of its own."""
    return [rows[0] for task, rows in every(evaluations).items() if task != "withheld" and rows]


def every(evaluations: Sequence[Evaluated]) -> dict[str, list[Row]]:
    """All metrics by task, in the order in which they first occur."""
    names: dict[str, dict[str, None]] = {}
    for found in evaluations:
        for task, figures in found.figures.items():
            names.setdefault(task, {}).update(dict.fromkeys(figures))
    return {
        task: [
            Row(task, metric, tuple(found.figures.get(task, {}).get(metric) for found in evaluations))
            for metric in metrics
        ]
        for task, metrics in names.items()
    }


def gaps(rows: Sequence[Row], sets: int) -> list[Gap]:
    """One Gap for each data set after the first that shares a headline figure with it."""
    found = []
    for index in range(1, sets):
        both = [
            (row, gap)
            for row in rows
            if (gap := row.gap(index)) is not None and not is_lower_better(row.metric)
        ]
        if both:
            largest = max(both, key=lambda pair: abs(pair[1]))[0]
            mean = sum(gap for _, gap in both) / len(both)
            clear = sum(row.is_clear(index) for row, _ in both)
            found.append(Gap(index, len(both), mean, clear, largest))
    return found


def charts(run: RunFolder) -> list[Markup]:
    """Learning curves from the log; empty without steps."""
    steps = run.steps()
    names = dict.fromkeys(name for step in steps for name in step.get("losses", {}))
    losses = [
        Line(name, _curve([(s["step"], s["losses"][name]) for s in steps if name in s.get("losses", {})]))
        for name in names
    ]
    skipped = len(run.events("skipped"))
    drawn = [
        chart(
            "Loss", [_line("loss", steps)], note=f"steps skipped as not finite: {skipped}" if skipped else ""
        ),
        chart("Validation", _validation(run), low=0.0, high=1.0, percent=True),
        chart("Loss by objective", losses[:_MOST_LINES], note=_and_more(losses)),
        chart("Gradient norm", [_line("gradient_norm", steps)]),
        chart("Learning rate", [Line("learning rate", thin(_points("learning_rate", steps)))], low=0.0),
        chart("Samples per second", [_line("samples_per_second", steps)], low=0.0),
    ]
    return [one for one in drawn if one]


def watched(run: RunFolder) -> list[Watched]:
    """A few examples that validation asked again and again, with the answers in order of time."""
    history: dict[tuple[str, str, str], list[tuple[int, str, bool]]] = {}
    for event in run.events("validation"):
        for example in event.get("examples", []):
            expected, found = str(example.get("expected", "")), str(example.get("found", ""))
            name = (str(example.get("key", "")), str(example.get("prompt", "")), expected)
            history.setdefault(name, []).append(
                (event["step"], found, normalise(found) == normalise(expected))
            )
    longest = sorted(history.items(), key=lambda pair: -len(pair[1]))[:_WATCHED]
    return [
        Watched(
            *name, tuple(moments[i * (len(moments) - 1) // max(1, _MOMENTS - 1)] for i in range(_MOMENTS))
        )
        if len(moments) > _MOMENTS
        else Watched(*name, tuple(moments))
        for name, moments in longest
        if len(moments) > 1
    ]


def neighbours(found: Evaluated, *, worst: bool) -> dict[str, list[Mapping[str, Any]]]:
    """Retrieved neighbours by direction, those first that are the quickest to judge by eye."""
    ways: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for item in of_kind(found, "neighbours"):
        if item["worst"] == worst and item["source"] != item["target"]:
            ways.setdefault((item["source"], item["target"]), []).append(item)
    order = sorted(ways, key=lambda way: (way not in _FIRST_WAYS, way[0] != TEXT, way[1] == TEXT, way))
    return {f"{source} → {target}": ways[source, target] for source, target in order}


def alike(found: Evaluated) -> dict[str, list[Mapping[str, Any]]]:
    """Neighbours within one modality, by its name."""
    within: dict[str, list[Mapping[str, Any]]] = {}
    for item in of_kind(found, "neighbours"):
        if item["source"] == item["target"]:
            within.setdefault(item["source"], []).append(item)
    return within


def restored(found: Evaluated) -> dict[str, list[Mapping[str, Any]]]:
    """What was restored of hidden parts, by modality."""
    by_modality: dict[str, list[Mapping[str, Any]]] = {}
    for item in of_kind(found, "restored"):
        by_modality.setdefault(item["modality"], []).append(item)
    return by_modality


def of_kind(found: Evaluated, kind: str, task: str | None = None) -> list[Mapping[str, Any]]:
    """The gallery's items of a kind (and a task)."""
    return [item for item in found.items if item["kind"] == kind and task in (None, item["task"])]


def captions(found: Evaluated) -> list[tuple[Mapping[str, Any], list[Mapping[str, Any]]]]:
    """Captions of one sample from different inputs, together: the one from most inputs, then all."""
    by_key: dict[str, list[Mapping[str, Any]]] = {}
    for item in of_kind(found, "completion", "caption"):
        by_key.setdefault(item["key"], []).append(item)
    return [(max(items, key=lambda item: len(item["inputs"])), items) for items in by_key.values()]


def reliances(found: Evaluated) -> list[tuple[str, str, Figure, Figure, Figure]]:
    """(task, what was withheld, score with everything, score without it, drop)."""
    return [
        (item["task"], item["withheld"], *(Figure(**item[name]) for name in ("complete", "without", "drop")))  # type: ignore[misc]
        for item in of_kind(found, "reliance")
    ]


def mistakes(found: Evaluated) -> list[Mapping[str, Any]]:
    """Wrong classes, the most confident first."""
    return sorted(of_kind(found, "mistake"), key=lambda item: -item["confidence"])


def quarantined(run: RunFolder) -> tuple[list[tuple[str, Mapping[str, Any]]], int, list[tuple[str, int]]]:
    """The first fifty items left out with where that was, how many in all, and the usual reasons."""
    every_one = [("training", record) for record in run.quarantine]
    every_one += [(found.data, record) for found in run.evaluations for record in found.problems]
    reasons = Counter(str(record.get("reason", "")) for _, record in every_one)
    return every_one[:_MOST_ROWS], len(every_one), reasons.most_common(5)


def shelves(evaluations: Sequence[Evaluated], budget: int) -> dict[str, Shelf]:
    """An equal share of the page's size for the media of each data set."""
    return {found.data: Shelf(budget // len(evaluations)) for found in evaluations}


def _points(name: str, steps: Sequence[Mapping[str, Any]]) -> list[tuple[float, float]]:
    return [(step["step"], step[name]) for step in steps if step.get(name) is not None]


def _curve(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return thin(smooth(points))


def _line(name: str, steps: Sequence[Mapping[str, Any]]) -> Line:
    points = _points(name, steps)
    return Line(name.replace("_", " "), _curve(points), raw=thin(points))


def _validation(run: RunFolder) -> list[Line]:
    """The figures of validation that are shares, and so have one axis."""
    history: dict[str, list[tuple[float, float]]] = {}
    for event in run.events("validation"):
        for name, value in event.get("figures", {}).items():
            history.setdefault(name, []).append((event["step"], value))
    shares = {name: found for name, found in history.items() if all(0 <= value <= 1 for _, value in found)}
    return [Line(name, found, dots=True) for name, found in list(shares.items())[:_MOST_LINES]]


def _and_more(lines: Sequence[Line]) -> str:
    return f"and {len(lines) - _MOST_LINES} more in log.jsonl" if len(lines) > _MOST_LINES else ""
