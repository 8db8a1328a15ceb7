"""What a request for an answer says: who is to answer whom, and how the words are chosen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from ..core import DataError, Sample, Segment
from ..generation.settings import Decoding
from ..modalities.chat.messages import TEXT, Message, from_segments, place


def question(sample: Sample, known: Collection[str], instruction: str) -> list[Message]:
    """The messages of what in a sample is no target, up to the latest turn; other turns but the first are left out, and
    so are modalities that are not ``known``. If the user asks nothing, it is the ``instruction``.

    Raises DataError if nothing is left.
    """
    given = [segment for segment in sample.segments if not segment.target]
    latest = max((segment.turn for segment in given), default=0)
    seen = [s for s in given if s.turn in (0, latest) and s.modality in known]
    if not seen:
        has = ", ".join(sample.modalities()) or "nothing"
        raise DataError(f"has nothing that can be sent ({', '.join(known)}), only {has}")
    if not any(s.role == "user" for s in seen):
        seen.append(Segment(TEXT, instruction, role="user", turn=latest))
    return from_segments(seen)


def check_open(messages: Sequence[Message]) -> None:
    """Raise DataError unless it is the user who waits for an answer."""
    last = len(messages) - 1
    if messages[last].role != "user":
        raise DataError(
            f"expected a message of the user at the end, found one of the {messages[last].role}",
            field=place(last),
        )


def decoding_fields(how: Decoding, length: str) -> dict[str, Any]:
    """The fields that say how words are chosen; the greatest number of tokens is named ``length``. What is not needed
    is left out, as not all services know it.
    """
    found: dict[str, Any] = {length: how.max_new_tokens, "temperature": how.temperature}
    if how.samples:
        found["seed"] = how.seed
    if how.top_p < 1:
        found["top_p"] = how.top_p
    if how.top_k:
        found["top_k"] = how.top_k
    if how.stop:
        found["stop"] = list(how.stop)
    return found
