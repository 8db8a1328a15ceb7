"""Pauses between attempts, and what a Retry-After header means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from sensorium.core import ConfigError
from sensorium.providers import Patience
from sensorium.providers.patience import seconds_after


def test_pauses_double_up_to_the_longest():
    patience = Patience(first=1, longest=5, retries=4)
    assert [patience.pause(count, None, 1.0) for count in range(5)] == [1, 2, 4, 5, None]
    assert [patience.pause(count, None, 0.0) for count in range(4)] == [0.5, 1, 2, 2.5]


def test_the_pause_that_is_asked_for():
    patience = Patience(longest=5, retries=1)
    assert patience.pause(0, 5.0, 0.3) == 5
    assert patience.pause(0, 5.1, 0.3) is None
    assert patience.pause(1, 0.0, 0.3) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"timeout": 0}, {"timeout": float("nan")}, {"timeout": float("inf")}, {"retries": -1}, {"retries": 101},
        {"first": -1}, {"first": 9, "longest": 8}, {"longest": float("inf")},
    ],
)  # fmt: skip
def test_settings_that_cannot_be(settings: dict[str, float]):
    with pytest.raises(ConfigError, match="Patience"):
        Patience(**settings)


def test_retry_after():
    assert seconds_after("2.5") == 2.5
    assert seconds_after("-1") == 0
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert 27 < (seconds_after(format_datetime(soon, usegmt=True)) or 0) <= 30
    assert seconds_after("Sun, 06 Nov 1994 08:49:37 GMT") == 0
    assert seconds_after("Sun, 06 Nov 1994 08:49:37 -0000") == 0
    assert [seconds_after(header) for header in (None, "", "soon", "nan", "inf")] == [None] * 5
