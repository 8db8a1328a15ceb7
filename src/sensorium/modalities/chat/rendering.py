"""The process beside this one in which chat templates are rendered: started when first asked, and ended with this."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Lock
from typing import Any

from ...core import CapabilityError

_PROGRAM = Path(__file__).with_name("renderer.py")
_KEPT = ("PATH", "LD_LIBRARY_PATH")  # of the environment, in which there may be keys


class _Rendering:
    """Asks the process, one question at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        with self._lock:
            child = self._child = self._child or _start()
            try:
                reply = _exchange(child, json.dumps(question).encode() + b"\n")
            except BaseException:  # an interrupted question leaves a reply that the next must not read
                self._end()
                raise
            if reply:
                return json.loads(reply)
            status = child.wait()
            self._end()
            return {"failed": _reason(status)}

    def close(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()  # closes the pipes and waits
            self._child = None


def _start() -> subprocess.Popen[bytes]:
    paths = os.pathsep.join(path for path in sys.path if path)
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    try:
        return subprocess.Popen(
            [sys.executable, "-P", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=kept | {"PYTHONPATH": paths},
            start_new_session=True,  # Ctrl-C is for this process
        )
    except OSError as error:
        raise CapabilityError(
            f"chat templates are rendered in a process of their own, which cannot be started: {error}"
        ) from None


def _exchange(child: subprocess.Popen[bytes], line: bytes) -> bytes:
    """The reply to a line; nothing if the process has ended."""
    if child.stdin is None or child.stdout is None:
        return b""
    try:
        child.stdin.write(line)
        child.stdin.flush()
    except BrokenPipeError:
        return b""
    return child.stdout.readline()


def _reason(status: int) -> str:
    if status == -signal.SIGPROF:
        return "it computes for more than 1 second"
    named = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    return f"it ended the process that renders it ({named})"


_of_process: dict[int, _Rendering] = {}  # a fork starts its own and leaves its copy of another's alone


def ask(question: dict[str, Any]) -> dict[str, Any]:
    """The reply of the process: ``texts``, or why there are none, as ``refused`` or ``failed``."""
    return _of_process.setdefault(os.getpid(), _Rendering()).ask(question)


@atexit.register
def _close() -> None:
    if (own := _of_process.get(os.getpid())) is not None:
        own.close()
