"""Metrics: pure functions from tensors or strings to one value per sample, and their statistics."""

from .classification import confusion, correct, per_class
from .retrieval import Ranks, chance_recall, nearest, ranks
from .statistics import Figure, bootstrap, paired_difference
from .text import exact_match, normalise, token_f1

__all__ = [
    "Figure",
    "Ranks",
    "bootstrap",
    "chance_recall",
    "confusion",
    "correct",
    "exact_match",
    "nearest",
    "normalise",
    "paired_difference",
    "per_class",
    "ranks",
    "token_f1",
]
