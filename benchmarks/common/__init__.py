"""What the benchmarks share: honest timing, the state of the machine, a table, and a JSON file of what was found."""

from .machine import limit_threads, load, machine
from .record import figures, save, table
from .timing import Timing, figure, once

__all__ = ["Timing", "figure", "figures", "limit_threads", "load", "machine", "once", "save", "table"]
