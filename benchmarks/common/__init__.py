"""What the benchmarks share: honest timing, the state of the machine, a table, and a JSON file of what was found."""

from .machine import limit_threads, load, machine
from .peers import peer
from .process import extra_peak, forget_peak, held, in_a_process, peak
from .record import figures, save, table
from .timing import Timing, figure, interleaved, once, ratios

__all__ = [
    "Timing",
    "extra_peak",
    "figure",
    "figures",
    "forget_peak",
    "held",
    "in_a_process",
    "interleaved",
    "limit_threads",
    "load",
    "machine",
    "once",
    "peak",
    "peer",
    "ratios",
    "save",
    "table",
]
