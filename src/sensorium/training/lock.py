"""One process per run directory."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..core.errors import ConfigError


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the run directory; ConfigError naming the other process if one holds it. Freed even by kill -9.

    The lock belongs to this process alone: loader processes that outlive a killed trainer do not hold it.
    """
    run.mkdir(parents=True, exist_ok=True)
    with (run / "lock").open("a+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            file.seek(0)
            raise ConfigError(
                f"{run} is in use by process {file.read().strip() or 'unknown'}: wait for it, or choose another --out"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
