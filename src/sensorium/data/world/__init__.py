"""The embedded data set: seeded scenes of coloured shapes as pictures, clips, sounds, captions and questions.

Everything is procedural with exact ground truth, so that the whole system can be tried without a network.
"""

from .language import INVERSE, Question, ask, compare, describe, judge, parse
from .scene import (
    COLOURS,
    HELD_OUT,
    MOTIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    SPLITS,
    Facts,
    Scene,
    Thing,
    count_scenes,
    draw_scene,
    split_of,
)
from .write import WorldSummary, write_world

__all__ = [
    "COLOURS",
    "HELD_OUT",
    "INVERSE",
    "MOTIONS",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "Facts",
    "Question",
    "Scene",
    "Thing",
    "WorldSummary",
    "ask",
    "compare",
    "count_scenes",
    "describe",
    "draw_scene",
    "judge",
    "parse",
    "split_of",
    "write_world",
]
