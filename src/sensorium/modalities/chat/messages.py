"""What is said in a conversation, by whom: messages of typed parts, from a user's dicts or from a sample's segments."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...core import DataError, Segment, nearest

ROLES = ("system", "user", "assistant", "tool")
TEXT = "text"
_URL = "_url"


@dataclass(frozen=True)
class Part:
    """One piece of a message: its modality, and its value as that modality reads it."""

    kind: str
    value: Any


@dataclass(frozen=True)
class Message:
    """What one role says. ``target``: a model learns to say it."""

    role: str
    parts: tuple[Part, ...]
    target: bool = False


def read_messages(value: Any, modalities: Collection[str]) -> list[Message]:
    """Messages from dicts of ``role`` and ``content``, as chat interfaces write them.

    Content is text, or a list of parts: ``{"type": "text", "text": ...}``, or any of ``modalities`` as the type and
    as the field of its value, or ``{"type": "image_url", "image_url": {"url": "data:..."}}`` with the bytes in base64.
    Nothing is fetched. All that the assistant says is a target. Raises DataError naming ``messages[i].content[j]``.
    """
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise DataError(f"expected a list of messages, found {_kind(value)}", field="messages")
    if not value:
        raise DataError("the conversation is empty: expected at least one message", field="messages")
    return [_message(one, f"messages[{index}]", modalities) for index, one in enumerate(value)]


def from_segments(segments: Iterable[Segment]) -> list[Message]:
    """The messages of a sample: turn after turn, turn 0 first; a part for each segment, in their order.

    Consecutive segments of one role and turn are one message. What is content of the sample is said by the user,
    and what of it is a target, such as a caption, by the assistant. Content before the first message of the user
    begins that message.
    """
    messages: list[Message] = []
    turn: int | None = None
    context: list[Part] = []  # content that waits for the first message of the user
    for segment in sorted(segments, key=lambda one: one.turn):
        role, part = segment.role, Part(segment.modality, segment.value)
        if role == "content":
            role = "assistant" if segment.target else "user"
            if role == "user" and not any(message.role == "user" for message in messages):
                context.append(part)
                continue
        if role == "assistant" and context:
            messages.append(Message("user", tuple(context)))
            context = []
        last = messages[-1] if messages else None
        if last is not None and (last.role, turn) == (role, segment.turn):
            parts = (*last.parts, part)
            messages[-1] = Message(role, parts, last.target or segment.target)
        else:
            before = context if role == "user" else []
            messages.append(Message(role, (*before, part), segment.target))
            context = [] if role == "user" else context
        turn = segment.turn
    if context:
        messages.append(Message("user", tuple(context)))
    return messages


def place(message: int, part: int | None = None) -> str:
    """How errors name a message, or one of its parts."""
    return f"messages[{message}]" + ("" if part is None else f".content[{part}]")


def _message(value: Any, field: str, modalities: Collection[str]) -> Message:
    message = _object(value, field, ("role", "content"))
    for name in ("role", "content"):
        if name not in message:
            raise DataError("missing", field=f"{field}.{name}")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise DataError(f"unknown role {role!r}{nearest(str(role), ROLES)}", field=f"{field}.role")
    if isinstance(content, str):
        parts = [Part(TEXT, _text(content, f"{field}.content"))]
    elif isinstance(content, list | tuple):
        parts = [_part(one, f"{field}.content[{index}]", modalities) for index, one in enumerate(content)]
        if not parts:
            raise DataError("the message is empty: expected at least one part", field=f"{field}.content")
    else:
        raise DataError(f"expected text or a list of parts, found {_kind(content)}", field=f"{field}.content")
    return Message(role, tuple(parts), target=role == "assistant")


def _part(value: Any, field: str, modalities: Collection[str]) -> Part:
    if not isinstance(value, Mapping):
        raise DataError(f"expected a part, {{'type': ...}}, found {_kind(value)}", field=field)
    named = value.get("type")
    known = {TEXT, *modalities}
    kind = named.removesuffix(_URL) if isinstance(named, str) else ""
    if not isinstance(named, str) or kind not in known or (kind == TEXT and named != TEXT):
        raise DataError(
            f"expected a type that the model knows, found {named!r}{nearest(str(named), known)}",
            field=f"{field}.type",
        )
    part = _object(value, field, ("type", named))
    if named not in part:
        raise DataError(f"expected the field {named!r} beside the type, found none", field=field)
    found, field = part[named], f"{field}.{named}"
    if kind == TEXT:
        return Part(TEXT, _text(found, field))
    if named != kind:
        url = _object(found, field, ("url",)).get("url")
        if not isinstance(url, str) or not url.startswith("data:"):
            raise DataError(
                f"expected a URL that holds the content itself, 'data:...;base64,...', found {str(url)[:80]!r}; "
                "nothing is fetched",
                field=f"{field}.url",
            )
        return Part(kind, _data(url, f"{field}.url"))
    if isinstance(found, str) and found.startswith("data:"):
        return Part(kind, _data(found, field))
    if isinstance(found, str) and "://" in found:
        raise DataError(
            f"expected a file or its content, found the URL {found[:80]!r}; nothing is fetched", field=field
        )
    return Part(kind, found)


def _data(url: str, field: str) -> bytes:
    head, comma, body = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise DataError(f"expected 'data:...;base64,...', found {url[:40]!r}", field=field)
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise DataError(f"expected base64: {error}", field=field) from None


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"expected text, found {_kind(value)}", field=field)
    if not value.strip():
        raise DataError("the text is empty", field=field)
    return value


def _object(value: Any, field: str, known: Collection[str]) -> dict[str, Any]:
    """``value`` without what is None, which must be an object of no other fields than ``known``."""
    if not isinstance(value, Mapping):
        raise DataError(f"expected an object, found {_kind(value)}", field=field)
    present = {name: item for name, item in value.items() if item is not None}
    for name in present:
        if name not in known:
            raise DataError(f"unknown field{nearest(str(name), known)}", field=f"{field}.{name}")
    return present


def _kind(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__
