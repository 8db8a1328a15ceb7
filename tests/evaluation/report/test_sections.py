"""What the page is told about gaps, curves and galleries."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sensorium.evaluation import Figure
from sensorium.evaluation.report import sections
from sensorium.evaluation.report.folder import read_run


def _row(*values: float, width: float = 0.05) -> sections.Row:
    figures = tuple(Figure(value, value - width, value + width, 100) for value in values)
    return sections.Row("answer", "accuracy", figures)


def test_gaps() -> None:
    rows = [
        _row(0.8, 0.5),
        _row(0.6, 0.58),
        sections.Row("caption", "exact match", (_row(0.5).figures[0], None)),
    ]
    (gap,) = sections.gaps(rows, 2)
    assert (gap.index, gap.rows, gap.clear) == (1, 2, 1)
    assert gap.mean == pytest.approx(-0.16)
    assert gap.largest == rows[0]
    assert rows[2].gap(1) is None
    assert not rows[2].is_clear(1)
    assert sections.gaps(rows, 1) == []


def _log(folder: Path, *lines: dict) -> None:
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_validation_draws_shares_only(tmp_path: Path) -> None:
    events = [
        {
            "event": "validation",
            "step": step,
            "figures": {"image-text R@1": 0.5, "image-text median rank": 3.0},
        }
        for step in (1, 2)
    ]
    _log(tmp_path, *events)
    (drawn,) = sections.charts(read_run(tmp_path))
    assert "image-text R@1" in drawn
    assert "median rank" not in drawn


def test_watched_follows_examples_that_come_again(tmp_path: Path) -> None:
    def event(step: int, *examples: tuple[str, str]) -> dict:
        shown = [{"key": key, "prompt": "", "expected": "A cat.", "found": found} for key, found in examples]
        return {"event": "validation", "step": step, "figures": {}, "examples": shown}

    _log(
        tmp_path,
        *(event(step, ("a", "cat" if step > 15 else "dog")) for step in range(20)),
        event(20, ("b", "cat")),
    )
    (one,) = sections.watched(read_run(tmp_path))
    assert (one.key, one.expected) == ("a", "A cat.")
    assert len(one.moments) == 6
    assert one.moments[0] == (0, "dog", False)
    assert one.moments[-1] == (19, "cat", True)


def test_quarantined_counts_all_and_shows_some(tmp_path: Path) -> None:
    records = [{"key": f"k{i}", "reason": "too short" if i % 3 else "no file"} for i in range(60)]
    (tmp_path / "quarantine.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    shown, many, reasons = sections.quarantined(read_run(tmp_path))
    assert (len(shown), many) == (50, 60)
    assert reasons == [("too short", 40), ("no file", 20)]
