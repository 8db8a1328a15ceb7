"""Measurements in processes of their own, and the memory that a process holds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_STATUS = Path("/proc/self/status")


def held() -> float:
    """Megabytes that this process holds."""
    return _megabytes("VmRSS")


def peak() -> float:
    """Megabytes that this process held at most, since ``forget_peak`` or ever."""
    return _megabytes("VmHWM")


def forget_peak() -> None:
    """Let the peak start again from what is held now."""
    Path("/proc/self/clear_refs").write_text("5")


def extra_peak(call: Callable[[], Any]) -> float:
    """Megabytes that a call needs at most beyond what was held before."""
    forget_peak()
    before = held()
    call()
    return peak() - before


def _megabytes(field: str) -> float:
    (found,) = re.findall(rf"{field}:\s+(\d+) kB", _STATUS.read_text())
    return int(found) / 1024


def in_a_process(script: str, given: Any, threads: int, *, without: Sequence[str] = ()) -> Any:
    """What ``script --child GIVEN --threads N``, in JSON both ways, prints last. Variables of the environment that are
    named in ``without`` are taken away. Leaves with the words of a process that failed.
    """
    command = [sys.executable, script, "--child", json.dumps(given), "--threads", str(threads)]
    environment = {name: value for name, value in os.environ.items() if name not in without}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])
