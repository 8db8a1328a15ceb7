"""What a model returns: named intermediate results from which objectives, metrics and answers are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from .product import linear

_EACH = ("target", "owner", "weight")  # what a prediction knows of each token


@dataclass(frozen=True)
class Embedding:
    """Unit-length vectors of the contrasted segments of one modality and the samples they stand for."""

    vectors: Float[Tensor, "n d"]
    owner: Int[Tensor, "n"]


def products(one: Float[Tensor, "n *p d"], other: Float[Tensor, "m *q d"]) -> Float[Tensor, "n m"]:
    """The dot products of all pairs; the largest, where one of a pair has several vectors."""
    found = one.flatten(0, -2) @ other.flatten(0, -2).T
    if other.ndim > 2:
        found = found.unflatten(1, (other.shape[0], other.shape[1])).amax(2)
    return found if one.ndim == 2 else found.unflatten(0, (one.shape[0], one.shape[1])).amax(1)


@dataclass(frozen=True)
class TokenPrediction:
    """Logits for ``m`` token positions, what stood there, the samples they belong to, and their weight.

    The weight is 1 for each next token; those of the masked tokens of one segment sum to 1.
    """

    logits: Float[Tensor, "m vocabulary"]
    target: Int[Tensor, "m"]
    owner: Int[Tensor, "m"]
    weight: Float[Tensor, "m"]

    def select(self, rows: Int[Tensor, "k"] | slice) -> TokenPrediction:
        """That of some of the tokens."""
        return replace(self, **{name: getattr(self, name)[rows] for name in ("logits", *_EACH)})


@dataclass(frozen=True)
class WordPrediction:
    """The same before logits are made, which take far more room: ``rows`` of features, and the ``table`` with a row per
    token that they are compared with. A logit is their product plus ``bias``, times ``scale``, and with ``softcap``
    bent by ``softcap * tanh(logit / softcap)``.
    """

    rows: Float[Tensor, "m d"]
    table: Float[Tensor, "v d"]
    target: Int[Tensor, "m"]
    owner: Int[Tensor, "m"]
    weight: Float[Tensor, "m"]
    bias: Float[Tensor, "v"] | None = None
    scale: float = 1.0
    softcap: float | None = None

    def select(self, rows: Int[Tensor, "k"] | slice) -> WordPrediction:
        """That of some of the tokens."""
        return replace(self, **{name: getattr(self, name)[rows] for name in ("rows", *_EACH)})

    @cached_property
    def logits(self) -> Float[Tensor, "m v"]:
        """Made when asked for."""
        return logits(self.rows, self.table, self.bias, self.scale, self.softcap)


def logits(
    rows: Float[Tensor, "*m d"],
    table: Float[Tensor, "v d"],
    bias: Float[Tensor, "v"] | None = None,
    scale: float = 1.0,
    softcap: float | None = None,
) -> Float[Tensor, "*m v"]:
    """Those of tokens whose rows stand in a table."""
    found = linear(rows, table, bias)
    if scale != 1:
        found = found * scale
    return found if softcap is None else softcap * torch.tanh(found / softcap)


@dataclass(frozen=True)
class PatchPrediction:
    """Predicted and true values of ``m`` masked patches; ``weight`` sums to one over a segment's patches."""

    values: Float[Tensor, "m p"]
    target: Float[Tensor, "m p"]
    weight: Float[Tensor, "m"]


@dataclass(frozen=True)
class Restoration:
    """Prepared values of ``n`` segments, which of them a network did not see, and what it made of those.

    ``borrowed`` says that the mean and the contrast of each restored patch are those of the true one.
    """

    values: Shaped[Tensor, "n *s c"]
    hidden: Bool[Tensor, "n *s"]
    restored: Shaped[Tensor, "n *s c"]
    borrowed: bool = False

    def explained(self) -> Float[Tensor, "n"]:
        """Of each segment the share of what tells its hidden values from the mean of the others that was restored:
        from 0, no better than that mean, to 1.
        """
        values, restored, hidden = self.values.double(), self.restored.double(), self.hidden[..., None]
        axes = tuple(range(1, values.ndim - 1))
        seen = (values * ~hidden).sum(axes, keepdim=True) / (~hidden).sum(axes, keepdim=True).clamp(min=1)
        wrong, plain = (((values - other).square() * hidden).flatten(1).sum(1) for other in (restored, seen))
        return torch.where(plain > 0, 1 - wrong / plain, 0.0).clamp(min=0)


@dataclass(frozen=True)
class Reconstruction:
    """One value as a network sees it whole, with a part hidden, and with that part restored, all to be shown by its
    modality. ``explained`` is that of the ``Restoration``; None where the network borrowed from the truth.
    """

    whole: Any
    hidden: Any
    restored: Any
    explained: float | None


@dataclass(frozen=True)
class Judgement:
    """Logits of a yes for each of ``m`` things (tokens, pairs), the truth, and the samples they belong to."""

    logits: Float[Tensor, "m"]
    target: Bool[Tensor, "m"]
    owner: Int[Tensor, "m"]


@dataclass(frozen=True)
class ClassPrediction:
    """Logits over classes for ``n`` things, the true class, and the samples they belong to."""

    logits: Float[Tensor, "n classes"]
    target: Int[Tensor, "n"]
    owner: Int[Tensor, "n"]


@dataclass(frozen=True)
class CodePrediction:
    """Vectors ``predicted`` for ``m`` hidden frames, ``lengths`` of each segment, and the ``codes`` of what was there.

    ``chosen`` are the entries of the code books, ``shares`` how likely each entry was. ``distractors`` are other hidden
    frames of the same segment by their place among them, -1 for none. ``weight`` sums to one over a segment.
    """

    predicted: Float[Tensor, "m e"]
    codes: Float[Tensor, "m e"]
    chosen: Int[Tensor, "m books"]
    shares: Float[Tensor, "m books entries"]
    lengths: Int[Tensor, "n"]
    distractors: Int[Tensor, "m k"]
    weight: Float[Tensor, "m"]


@dataclass(frozen=True)
class Transcription:
    """Logits for the ``m`` frames of ``n`` recordings, one after the other, and the ``k`` tokens said in them.

    ``blank`` is the token of a frame that says nothing.
    """

    logits: Float[Tensor, "m vocabulary"]
    lengths: Int[Tensor, "n"]
    target: Int[Tensor, "k"]
    target_lengths: Int[Tensor, "n"]
    blank: int


@dataclass(frozen=True)
class Preference:
    """The ``words`` of answers of which one was preferred to another: of each word the pair it is of (-1: of none), and
    whether it is of the ``rejected`` answer. Pairs are those of ``core.batch.Stream.pairs`` or ``rivals``.
    """

    words: TokenPrediction | WordPrediction
    pair: Int[Tensor, "m"]
    rejected: Bool[Tensor, "m"]


@dataclass(frozen=True)
class Route:
    """To which of ``e`` experts a layer sends each of ``m`` tokens: the router's logits, and those ``chosen``."""

    logits: Float[Tensor, "m e"]
    chosen: Int[Tensor, "m k"]


@dataclass(frozen=True)
class Routes:
    """Those of all layers that have experts, and the samples that the tokens belong to."""

    layers: tuple[Route, ...]
    owner: Int[Tensor, "m"]


@dataclass(frozen=True)
class Outputs:
    """Everything a forward pass names.

    Two embeddings are as similar as ``scale`` (the inverse temperature) times their product plus ``bias``.
    ``queue`` holds, by modality, vectors of earlier batches that serve as further negatives: the same in every
    micro-batch and process, without gradients. ``keys`` holds those of this batch that are to be remembered: a step
    hands them to the model's ``remember``. ``teacher`` is what another model makes of the same batch.
    """

    embeddings: Mapping[str, Embedding] = field(default_factory=dict)
    scale: Float[Tensor, ""] | None = None
    bias: Float[Tensor, ""] | None = None
    queue: Mapping[str, Float[Tensor, "q d"]] = field(default_factory=dict)
    keys: Mapping[str, Float[Tensor, "n d"]] = field(default_factory=dict)
    teacher: Outputs | None = None
    language: TokenPrediction | WordPrediction | None = None
    masked_tokens: Mapping[str, TokenPrediction] = field(default_factory=dict)
    masked_patches: Mapping[str, PatchPrediction] = field(default_factory=dict)
    replaced_tokens: Mapping[str, Judgement] = field(default_factory=dict)
    relations: Mapping[str, ClassPrediction] = field(default_factory=dict)
    codes: CodePrediction | None = None
    transcription: Transcription | None = None
    preferences: Preference | None = None
    routes: Routes | None = None
