"""What a service answers, read field by field: a wrong type is an error that names the field."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from ..core import CapabilityError
from .errors import ServiceError

_T = TypeVar("_T")
_FILTERED = "content_filter"
_GREATEST = 1e-3  # a log-probability that rounding may make


@dataclass(frozen=True)
class Reply:
    """An answer, and why it ended: ``stop``, ``length`` (it was cut off) or ``content_filter``."""

    text: str
    finish: str | None

    @property
    def problem(self) -> str | None:
        """Why the text cannot be taken for an answer."""
        if self.finish == _FILTERED:
            return "the service withheld the answer (finish_reason 'content_filter')"
        if self.finish == "length" and not self.text:
            return "max_new_tokens was used up before the first word of the answer (by reasoning, usually)"
        return None

    def checked(self, where: str) -> str:
        """The text. Raises ServiceError where there is a problem."""
        if self.problem is not None:
            raise ServiceError(f"{where}: {self.problem}")
        return self.text


def read_reply(answer: Any, where: str) -> Reply:
    """The first choice of a chat completion. Where the model refuses in a field of its own, that is the answer."""
    choice = _first_choice(answer, where)
    message = _field(choice, "message", dict, where, "choices[0].")
    finish = _field(choice, "finish_reason", str | None, where, "choices[0].")
    text = _field(message, "content", str | None, where, "choices[0].message.")
    if text is None:
        text = _field(message, "refusal", str | None, where, "choices[0].message.")
    if text is None and finish not in (_FILTERED, "length"):
        raise ServiceError(f"{where}: choices[0].message has no text (finish_reason {finish!r:.40})")
    return Reply(text or "", finish)


def read_stream(chunks: Iterable[Any], where: str) -> Iterator[str]:
    """The pieces of a streamed answer as they come. Raises ServiceError at the end of one that is not whole."""
    text, finish = "", None
    for chunk in chunks:
        if not _field(chunk, "choices", list, where):  # only counts of tokens
            continue
        choice = _first_choice(chunk, where)
        delta = _field(choice, "delta", dict, where, "choices[0].")
        finish = _field(choice, "finish_reason", str | None, where, "choices[0].") or finish
        for name in ("content", "refusal"):
            if piece := _field(delta, name, str | None, where, "choices[0].delta."):
                text = piece
                yield piece
    if finish is None:
        raise ServiceError(f"{where}: the stream ended before the answer did")
    Reply(text, finish).checked(where)


def read_models(answer: Any, where: str) -> list[str]:
    """The names in a list of models."""
    listed = _field(answer, "data", list, where)
    return [_field(one, "id", str, where, f"data[{i}].") for i, one in enumerate(listed)]


def read_scores(answer: Any, prompt: str, spans: Sequence[tuple[int, int]], where: str) -> list[float]:
    """The log-probabilities of the tokens of ``prompt`` that have a part in one of ``spans`` (from, to).

    Raises CapabilityError where the service does not give those of the prompt, token by token.
    """
    choice = _first_choice(answer, where)
    echoed = _field(choice, "logprobs", dict | None, where, "choices[0].")
    if echoed is None:
        raise CapabilityError(f"{where}: gives no log-probabilities (echo with logprobs)")
    inside = "choices[0].logprobs."
    tokens = _field(echoed, "tokens", list, where, inside)
    values = _field(echoed, "token_logprobs", list, where, inside)
    if len(tokens) != len(values) or not all(isinstance(token, str) for token in tokens):
        raise ServiceError(f"{where}: {inside}tokens: expected {len(values)} texts")
    before = "".join(tokens).find(prompt)  # how much a token of the beginning takes
    if before < 0:
        raise CapabilityError(f"{where}: the tokens that it echoes do not spell what was sent")
    found, place = [], -before
    for token, value in zip(tokens, values, strict=True):
        start, place = place, place + len(token)
        if any(start < end and place > begin for begin, end in spans):
            found.append(_log_probability(value, where))
    return found


def _log_probability(value: Any, where: str) -> float:
    if value is None:
        raise CapabilityError(f"{where}: gives no log-probability of a first token: put something before it")
    if isinstance(value, bool) or not isinstance(value, int | float) or not -math.inf < value <= _GREATEST:
        raise ServiceError(f"{where}: token_logprobs: expected log-probabilities, found {value!r:.40}")
    return min(float(value), 0.0)


def _first_choice(answer: Any, where: str) -> dict[str, Any]:
    choices = _field(answer, "choices", list, where)
    if not choices or not isinstance(choices[0], dict):
        raise ServiceError(f"{where}: choices: expected an object in it, found {choices[:1]!r:.40}")
    return choices[0]


def _field(owner: Any, name: str, kind: Any, where: str, inside: str = "") -> Any:
    """A field that has to be of a type; absent is None."""
    value = owner.get(name) if isinstance(owner, dict) else owner
    if not isinstance(owner, dict) or not isinstance(value, kind):
        wanted = getattr(kind, "__name__", kind)
        raise ServiceError(
            f"{where}: {inside}{name}: expected {wanted}, found {type(value).__name__} in its answer"
        )
    return value
