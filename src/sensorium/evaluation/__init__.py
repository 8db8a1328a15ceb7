"""Evaluation: what a model can do, measured with uncertainty and kept for people to look at."""

from .harness import Evaluation, evaluate
from .metrics import Figure
from .protocol import Compare, Predictor, Source
from .tasks import (
    Alike,
    Answer,
    Caption,
    Classify,
    InContext,
    Reconstruct,
    Retrieval,
    Task,
    TaskResult,
    Withheld,
    default_tasks,
)

__all__ = [
    "Alike",
    "Answer",
    "Caption",
    "Classify",
    "Compare",
    "Evaluation",
    "Figure",
    "InContext",
    "Predictor",
    "Reconstruct",
    "Retrieval",
    "Source",
    "Task",
    "TaskResult",
    "Withheld",
    "default_tasks",
    "evaluate",
]
