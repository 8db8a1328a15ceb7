"""What the benchmarks share: honest timing, the state of the machine, a table, and a JSON file of what was found."""

from .machine import limit_threads, load, machine
from .record import save, table
from .timing import Timing, figure, once, repeat

__all__ = ["Timing", "figure", "limit_threads", "load", "machine", "once", "repeat", "save", "table"]
