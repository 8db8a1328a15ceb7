"""A connection with a deadline: however slowly its bytes come, they have come by then or never."""

from __future__ import annotations

import io
import socket
import time
from typing import Any

_BLOCK = 1 << 16  # bytes sent between two looks at the clock


class Line:
    """What ``http.client`` needs of a connected socket, with ``seconds`` for everything, until granted ``anew``.

    A socket's own timeout would hold for every single byte. Raises TimeoutError.
    """

    def __init__(self, connected: socket.socket, seconds: float) -> None:
        self._socket, self._seconds = connected, seconds
        self.anew()

    def anew(self) -> None:
        """Grant the seconds once more."""
        self._until = time.monotonic() + self._seconds

    def sendall(self, data: Any) -> None:
        """All bytes sent."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _BLOCK):
            self._ready().sendall(view[start : start + _BLOCK])

    def makefile(self, mode: str) -> io.BufferedReader:
        """What comes back, as a file."""
        return io.BufferedReader(_Received(self))

    def receive(self, buffer: Any) -> int:
        """How many bytes have come into ``buffer``; 0 at the end."""
        return self._ready().recv_into(buffer)

    def close(self) -> None:
        """Nothing yet: ``http.client`` closes before it has read. See ``hang_up``."""

    def hang_up(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _ready(self) -> socket.socket:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(left)
        return self._socket


class _Received(io.RawIOBase):
    def __init__(self, line: Line) -> None:
        self._line = line

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._line.receive(buffer)
