"""What a model returns: named intermediate results from which objectives, metrics and answers are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Embedding:
    """Unit-length vectors of the contrasted segments of one modality and the samples they stand for."""

    vectors: Float[Tensor, "n d"]
    owner: Int[Tensor, "n"]


@dataclass(frozen=True)
class TokenPrediction:
    """Logits for ``m`` token positions, what stood there, the samples they belong to, and their weight.

    The weight is 1 for each next token; those of the masked tokens of one segment sum to 1.
    """

    logits: Float[Tensor, "m vocabulary"]
    target: Int[Tensor, "m"]
    owner: Int[Tensor, "m"]
    weight: Float[Tensor, "m"]


@dataclass(frozen=True)
class PatchPrediction:
    """Predicted and true values of ``m`` masked patches; ``weight`` sums to one over a segment's patches."""

    values: Float[Tensor, "m p"]
    target: Float[Tensor, "m p"]
    weight: Float[Tensor, "m"]


@dataclass(frozen=True)
class Outputs:
    """Everything a forward pass names. ``scale`` is the inverse temperature of the contrastive head."""

    embeddings: Mapping[str, Embedding] = field(default_factory=dict)
    scale: Float[Tensor, ""] | None = None
    language: TokenPrediction | None = None
    masked_tokens: Mapping[str, TokenPrediction] = field(default_factory=dict)
    masked_patches: Mapping[str, PatchPrediction] = field(default_factory=dict)
