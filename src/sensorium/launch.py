"""Several training processes on this machine, through torch's own launcher."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from .core import ConfigError

#: glibc gives large blocks back to the system after each use, and faults them in again at the next; training on a
#: CPU spends several percent of its time on that. These keep them.
_ALLOCATOR = {
    "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
    "MALLOC_TRIM_THRESHOLD_": str(2 << 30),
    "MALLOC_TOP_PAD_": str(64 << 20),
}


def launch(arguments: Sequence[str], processes: int) -> int:
    """Run ``sensorium ARGUMENTS`` as ``processes`` ranks under ``torchrun``; returns the exit status.

    Each rank computes with its share of the cores. On a CPU several ranks of one thread are faster than one
    rank of several threads: they wait for each other once per step, not once per operation.
    """
    if processes < 1:
        raise ConfigError(f"--processes must be at least 1, found {processes}")
    threads = max(1, (os.cpu_count() or 1) // processes)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = _ALLOCATOR | os.environ | {"OMP_NUM_THREADS": str(threads)}
    child = subprocess.Popen([*command, "-m", "sensorium", *arguments], env=environment)
    # Ctrl-C reaches the ranks by itself; a SIGTERM sent to this process alone has to be passed on.
    before = signal.signal(signal.SIGTERM, lambda number, frame: child.send_signal(number))
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return child.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
        signal.signal(signal.SIGINT, ignored)
