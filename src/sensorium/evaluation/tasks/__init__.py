"""Tasks: what is asked of a model, each with its own examples and scoring."""

from .alike import Alike
from .answer import Answer
from .caption import Caption
from .classify import Classify
from .in_context import InContext
from .reconstruct import Reconstruct
from .retrieval import Retrieval
from .task import Example, Scored, Task, TaskResult
from .withheld import Withheld

__all__ = [
    "Alike",
    "Answer",
    "Caption",
    "Classify",
    "Example",
    "InContext",
    "Reconstruct",
    "Retrieval",
    "Scored",
    "Task",
    "TaskResult",
    "Withheld",
    "default_tasks",
]


def default_tasks() -> list[Task]:
    """All tasks with their usual options; those that do not apply are skipped with a reason."""
    return [Retrieval(), Classify(), Caption(), Answer(), Withheld(), Alike(), Reconstruct()]
