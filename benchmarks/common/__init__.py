"""What the benchmarks share: honest timing, the state of the machine, a table, and a JSON file of what was found."""

from .machine import limit_threads, load, machine
from .peers import peer
from .record import figures, save, table
from .timing import Timing, figure, interleaved, once, ratios

__all__ = [
    "Timing",
    "figure",
    "figures",
    "interleaved",
    "limit_threads",
    "load",
    "machine",
    "once",
    "peer",
    "ratios",
    "save",
    "table",
]
