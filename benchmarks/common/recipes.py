"""A recipe of one's own, as a user would write it."""

from __future__ import annotations

from sensorium import Spec
from sensorium.recipes.unified import unified
from sensorium.training.optimizer import AdamW


def with_adamw(size: str = "tiny") -> Spec:
    """The unified model with an optimizer that works on whole and on sharded parameters alike."""
    return unified(size).set("training.optimizer", Spec(AdamW, lr=1e-3))
