"""How long a service is waited for, and when it is asked again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from ..core import ConfigError


@dataclass(frozen=True)
class Patience:
    """All in seconds but ``retries``.

    ``timeout``: for a whole answer or, where it is streamed, for each next piece of it. After a refusal for now (429),
    a failure of the service (5xx) or of the connection it is asked again, ``retries`` times. The pauses double from
    ``first`` to ``longest``, or are what the service asks for; if that is more than ``longest``, it is not asked
    again. Raises ConfigError.
    """

    timeout: float = 300.0
    retries: int = 4
    first: float = 0.5
    longest: float = 60.0

    def __post_init__(self) -> None:
        if not 0 < self.timeout < math.inf or not 0 <= self.first <= self.longest < math.inf:
            raise ConfigError(
                f"Patience: expected seconds, timeout above 0 and first no more than longest; found {self}"
            )
        if not 0 <= self.retries <= 100:
            raise ConfigError(f"Patience.retries must be from 0 to 100, found {self.retries}")

    def pause(self, attempt: int, after: float | None, share: float) -> float | None:
        """Seconds to wait before the next attempt, None if there is to be none.

        ``attempt`` counts from 0; ``after`` is what the service asks for. ``share``, from 0 to 1, spreads requests that
        failed together over the second half of the pause.
        """
        if attempt >= self.retries:
            return None
        if after is not None:
            return after if after <= self.longest else None
        return min(self.longest, self.first * 2**attempt) * (1 + share) / 2


def seconds_after(header: str | None) -> float | None:
    """The pause that a ``Retry-After`` header asks for: a number of seconds or a date; None if it makes no sense."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            moment = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
