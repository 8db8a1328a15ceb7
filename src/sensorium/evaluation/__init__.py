"""Evaluation: what a model can do, measured with uncertainty and kept for people to look at."""

from .harness import Evaluation, evaluate
from .metrics import Figure
from .protocol import Compare, Predictor, Source
from .tasks import Answer, Caption, Classify, Retrieval, Task, TaskResult, Withheld, default_tasks

__all__ = [
    "Answer",
    "Caption",
    "Classify",
    "Compare",
    "Evaluation",
    "Figure",
    "Predictor",
    "Retrieval",
    "Source",
    "Task",
    "TaskResult",
    "Withheld",
    "default_tasks",
    "evaluate",
]
