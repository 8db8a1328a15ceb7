"""(Outputs, Batch) -> named losses. Models never compute a loss."""

from .affinity import Affinity
from .balance import BalancedExperts
from .codes import CodeContrast, CodeDiversity
from .contrastive import Contrastive
from .ctc import CTC
from .distillation import SameEmbeddings, SoftMaskedTokens, SoftTokens
from .info_nce import InfoNCE
from .language import MaskedTokens, NextToken
from .objective import Objective
from .pair import Blend, Pairwise
from .patches import MaskedPatches
from .preferences import IdentityPreferences, Preferences
from .replaced import ReplacedTokenDetection
from .sentences import NextSentence
from .sigmoid import Sigmoid

__all__ = [
    "CTC",
    "Affinity",
    "BalancedExperts",
    "Blend",
    "CodeContrast",
    "CodeDiversity",
    "Contrastive",
    "IdentityPreferences",
    "InfoNCE",
    "MaskedPatches",
    "MaskedTokens",
    "NextSentence",
    "NextToken",
    "Objective",
    "Pairwise",
    "Preferences",
    "ReplacedTokenDetection",
    "SameEmbeddings",
    "Sigmoid",
    "SoftMaskedTokens",
    "SoftTokens",
]
