"""(Outputs, Batch) -> named losses. Models never compute a loss."""

from .contrastive import Contrastive
from .language import MaskedTokens, NextToken
from .objective import Objective
from .patches import MaskedPatches

__all__ = ["Contrastive", "MaskedPatches", "MaskedTokens", "NextToken", "Objective"]
