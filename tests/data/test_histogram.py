from __future__ import annotations

import numpy as np

from sensorium.data.histogram import Histogram


def test_numbers() -> None:
    values = [float(v) for v in range(1, 101)]
    found = Histogram.of(values[::-1], "s")
    assert (found.count, found.min, found.median, found.p95, found.max) == (100, 1.0, 50.5, 95.0, 100.0)
    assert found.p95 == np.percentile(values, 95, method="inverted_cdf")
    assert list(found.bins) == np.histogram(values, bins=12)[0].tolist()


def test_one_value() -> None:
    found = Histogram.of([2.0, 2.0], "px")
    assert (found.min, found.p95, found.max, found.bins, found.sparkline()) == (2.0, 2.0, 2.0, (2,), "█")


def test_sparkline_shows_empty_bins() -> None:
    assert Histogram.of([0.0] * 8 + [12.0], "s").sparkline() == "█" + " " * 10 + "▂"
