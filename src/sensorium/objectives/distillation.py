"""Matching what a teacher makes of the same batch. (For similarities between modalities: ``Affinity``.)"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..core.batch import Batch
from ..core.errors import ConfigError
from ..core.outputs import Outputs, TokenPrediction, WordPrediction
from .language import MaskedTokens, NextToken
from .linear_cross_entropy import rows_at_once
from .objective import Objective
from .tiles import cuts

_T = TypeVar("_T")
Prediction = TokenPrediction | WordPrediction


class SoftTokens(Objective):
    """Kullback-Leibler divergence from the teacher's distribution over the next token to the student's, both softened
    by ``temperature``, times its square (Hinton et al. 2015, arXiv:1503.02531). In nats per token. Logits that are not
    made yet are made for some tokens at a time, forward and again backward.

    Raises ConfigError for outputs without a teacher's predictions, or for another vocabulary.
    """

    def __init__(self, *, weight: float = 1.0, temperature: float = 2.0, stream: str = "text") -> None:
        self.weight, self.temperature = weight, _positive(temperature)
        self.truth = NextToken(stream=stream)

    def counts(self, batch: Batch) -> dict[str, int]:
        return {"distilled/language": self.truth.counts(batch)["language"]}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        name = "distilled/language"
        student, teacher = outputs.language, teacher_of(outputs, name).language
        if student is None or teacher is None:
            raise _lacking(name, "student" if student is None else "teacher")
        return {name: _divergence(name, student, teacher, self.temperature)}


class SoftMaskedTokens(Objective):
    """The same at masked tokens, mean over those of each segment (DistilBERT, Sanh et al. 2019, arXiv:1910.01108)."""

    def __init__(self, *, weight: float = 1.0, temperature: float = 2.0, stream: str = "text") -> None:
        self.weight, self.temperature, self.stream = weight, _positive(temperature), stream
        self.truth = MaskedTokens(stream=stream)

    def counts(self, batch: Batch) -> dict[str, int]:
        return {f"distilled/{name}": count for name, count in self.truth.counts(batch).items()}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        name = f"distilled/masked/{self.stream}"
        student = needed(name, "student", outputs.masked_tokens.get(self.stream))
        teacher = needed(name, "teacher", teacher_of(outputs, name).masked_tokens.get(self.stream))
        return {name: _divergence(name, student, teacher, self.temperature)}


class SameEmbeddings(Objective):
    """One minus the cosine of a segment's embeddings in student and teacher, mean over contrasted segments; one loss
    for each of ``streams`` (feature distillation: FitNets, Romero et al. 2014, arXiv:1412.6550; CLIP-KD, Yang et al.
    2023, arXiv:2307.12732).

    Raises ConfigError for outputs without a teacher, without such a stream, or with embeddings of other shapes.
    """

    def __init__(self, *, streams: Sequence[str], weight: float = 1.0) -> None:
        self.streams, self.weight = streams, weight

    def counts(self, batch: Batch) -> dict[str, int]:
        streams = {name: batch.streams[name] for name in self.streams}
        return {f"distilled/{name}": int((s.content & ~s.corrupt).sum()) for name, s in streams.items()}

    def totals(self, outputs: Outputs) -> dict[str, Float[Tensor, ""]]:
        return {f"distilled/{name}": self._distance(outputs, name) for name in self.streams}

    @staticmethod
    def _distance(outputs: Outputs, stream: str) -> Float[Tensor, ""]:
        name = f"distilled/{stream}"
        student = needed(name, "student", outputs.embeddings.get(stream)).vectors
        teacher = needed(name, "teacher", teacher_of(outputs, name).embeddings.get(stream)).vectors
        same_shape(name, student.shape, teacher.shape)
        return (1 - F.cosine_similarity(student, teacher)).sum()


def _positive(temperature: float) -> float:
    if temperature <= 0:
        raise ConfigError(f"temperature must be above 0, found {temperature}")
    return temperature


def teacher_of(outputs: Outputs, name: str) -> Outputs:
    """Raises ConfigError where there is none; ``name`` is that of the loss."""
    if outputs.teacher is None:
        raise ConfigError(f"{name} needs a model with a teacher (nn.architectures.taught.Taught), found none")
    return outputs.teacher


def needed(name: str, who: str, what: _T | None) -> _T:
    """Raises ConfigError for what one of the two lacks."""
    if what is None:
        raise _lacking(name, who)
    return what


def _lacking(name: str, who: str) -> ConfigError:
    return ConfigError(f"{name}: the {who} makes no such predictions")


def same_shape(name: str, student: Sequence[int], teacher: Sequence[int]) -> None:
    """Raises ConfigError for two others."""
    if tuple(student) != tuple(teacher):
        raise ConfigError(
            f"{name}: student and teacher must agree in number and width, found {list(student)} and {list(teacher)}"
        )


def _divergence(name: str, student: Prediction, teacher: Prediction, temperature: float) -> Float[Tensor, ""]:
    same_shape(name, _shape(student), _shape(teacher))
    if isinstance(student, TokenPrediction):
        return _of_some(student, teacher, slice(None), temperature)
    parts = cuts(max(len(student.rows), 1), rows_at_once(student.table))
    found = [
        checkpoint(
            _of_some, student, teacher, part, temperature, use_reentrant=False, preserve_rng_state=False
        )
        for part in parts
    ]
    return torch.stack(found).sum()


def _of_some(student: Prediction, teacher: Prediction, part: slice, temperature: float) -> Float[Tensor, ""]:
    soft, target = (_log_shares(one.select(part).logits, temperature) for one in (student, teacher))
    losses = F.kl_div(soft, target, reduction="none", log_target=True).sum(1)
    return temperature**2 * (losses * student.weight[part]).sum()


def _log_shares(logits: Float[Tensor, "r v"], temperature: float) -> Float[Tensor, "r v"]:
    """In single precision at least."""
    return (logits.to(torch.promote_types(logits.dtype, torch.float32)) / temperature).log_softmax(1)


def _shape(found: Prediction) -> tuple[int, int]:
    if isinstance(found, TokenPrediction):
        return len(found.logits), found.logits.shape[1]
    return len(found.rows), len(found.table)
