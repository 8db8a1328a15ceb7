"""Control: what was seen and done step by step, as one sequence of tokens."""

from __future__ import annotations

from .alphabet import Actions, Alphabet
from .episode import Episode
from .trajectory import Trajectory

__all__ = ["Actions", "Alphabet", "Episode", "Trajectory"]
