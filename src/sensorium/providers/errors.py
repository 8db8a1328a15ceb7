"""What can go wrong with a service of somebody else's."""

from __future__ import annotations

from ..core import SensoriumError


class ServiceError(SensoriumError):
    """A service that cannot be reached, refuses, or answers with something unusable.

    ``status`` is that of its HTTP answer, if there was one. ``passing`` says that the same request may succeed later,
    ``after`` how many seconds later, where the service said so.
    """

    def __init__(
        self, reason: str, *, status: int | None = None, passing: bool = False, after: float | None = None
    ) -> None:
        super().__init__(reason)
        self.status, self.passing, self.after = status, passing, after
