"""How figures are put for people: percentages, intervals, and what a metric means in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..metrics import Figure

MINUS = "\N{MINUS SIGN}"
_MEANINGS = {
    "R@1": "the right one comes first",
    "R@5": "the right one is among the first five",
    "R@10": "the right one is among the first ten",
    "median rank": "half of the right ones stand at this place or before",
    "MRR": "mean of one over the place of the right one",
    "same label": "the most alike one has the same label",
    "restored": "of what tells hidden parts from the mean of the visible ones",
    "exact match": "right word for word",
    "all attributes": "everything stated is right",
    "token F1": "words shared with the expected text",
}


def is_share(metric: str) -> bool:
    """Whether a metric lies between 0 and 1."""
    return not metric.endswith("median rank")


def is_lower_better(metric: str) -> bool:
    """Whether less is better."""
    return metric.endswith("median rank") or " drop without " in metric


def value(figure: Figure, *, share: bool = True) -> str:
    """``84.2 %``, or a plain number where the metric is not a share."""
    return f"{100 * figure.value:.1f} %" if share else f"{figure.value:g}"


def interval(figure: Figure, *, share: bool = True) -> str:
    """``81.0 to 87.3``, in the unit of ``value``."""
    scale = 100 if share else 1
    return f"{scale * figure.low:.1f} to {scale * figure.high:.1f}".replace("-", MINUS)


def points(number: float) -> str:
    """A difference of shares in percentage points, with its sign."""
    rounded = round(100 * number, 1)
    return f"{rounded:+.1f}".replace("-", MINUS) if rounded else "0.0"


def meaning(metric: str) -> str:
    """A few plain words on a metric; empty for one that says itself."""
    return next((words for ending, words in _MEANINGS.items() if metric.endswith(ending)), "")


def task_name(task: str, metric: str) -> str:
    """A pair of modalities as ``image ↔ text``, for the metrics of both ways."""
    return task.replace("-", " ↔ ") if metric.startswith("R@") else task


def arrows(metric: str) -> str:
    """The metric's name with a real arrow."""
    return metric.replace("->", " → ")


def minutes(seconds: float) -> str:
    """A duration to read: ``42 s``, ``12 min``, ``3 h 20 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    whole = round(seconds / 60)
    return f"{whole} min" if whole < 90 else f"{whole // 60} h {whole % 60} min"


def count(number: float) -> str:
    """A whole number with thin spaces between the thousands."""
    return f"{number:,.0f}".replace(",", "\u202f")


def outline(spec: Mapping[str, Any]) -> list[tuple[int, str, str]]:
    """A Spec as rows of (depth, name, value), with the classes' last names."""
    return list(_outline(spec, 0))


def _outline(value: Any, depth: int) -> Sequence[tuple[int, str, str]]:
    rows: list[tuple[int, str, str]] = []
    items = enumerate(value) if isinstance(value, list) else value.items()
    for name, item in items:
        if name == "class":
            continue
        if isinstance(item, dict | list) and item and any(isinstance(part, dict) for part in _parts(item)):
            kind = str(item.get("class", "")).rpartition(":")[2] if isinstance(item, dict) else ""
            rows += [(depth, str(name), kind), *_outline(item, depth + 1)]
        elif isinstance(item, dict) and "class" in item:
            kind = str(item["class"]).rpartition(":")[2]
            rows += [(depth, str(name), kind), *_outline(item, depth + 1)]
        else:
            rows.append((depth, str(name), str(item)))
    return rows


def _parts(item: dict[str, Any] | list[Any]) -> Sequence[Any]:
    return list(item.values()) if isinstance(item, dict) else item
