"""The conformance kit: call these checks in your own tests to prove that a part of yours fits.

Each raises AssertionError, naming the property that does not hold and what to do about it, and returns nothing
otherwise. They need no test framework and leave what they are given as it was.
"""

from .encoder import check_encoder
from .modality import check_modality
from .objective import check_objective
from .recipe import check_recipe

__all__ = ["check_encoder", "check_modality", "check_objective", "check_recipe"]
