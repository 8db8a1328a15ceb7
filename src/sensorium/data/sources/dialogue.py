"""A dialogue in a record: one question, several independent ones, or a chat with media inside."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...core import DataError, Modality, Segment, nearest
from .values import TEXT, list_value, media_values, object_value, text_value

ROLES = ("system", "user", "assistant")
FIELDS = ("question", "answer", "questions", "messages", "chosen", "rejected")


def plural(name: str) -> str:
    """The field with a chat's files of a modality: ``images`` for ``image``."""
    return name if name.endswith("s") else f"{name}s"


def pair(record: Mapping[str, Any]) -> list[Segment]:
    """Turn 1 of ``question`` and ``answer``."""
    for name, other in (("question", "answer"), ("answer", "question")):
        if name not in record:
            raise DataError(f"missing, although {other!r} is given", field=name)
    return _turn(record["question"], record["answer"], 1, "question", "answer")


def preference(record: Mapping[str, Any]) -> list[Segment]:
    """``question``, and as turns 1 and 2 the answer that was ``chosen`` and the one that was ``rejected``."""
    for name in ("question", "chosen", "rejected"):
        if name not in record:
            raise DataError(
                "missing: a preference has a question, what was chosen and what was rejected", field=name
            )
    asked = text_value(record["question"], "question")
    segments = [Segment(TEXT, asked, role="user", field="question")]
    for turn, name in enumerate(("chosen", "rejected"), 1):
        answer = text_value(record[name], name)
        segments.append(Segment(TEXT, answer, role="assistant", target=True, turn=turn, field=name))
    return segments


def questions(value: Any) -> tuple[list[Segment], list[str | None]]:
    """Turns 1 to n of independent questions, and the type of each (None where it names none)."""
    segments: list[Segment] = []
    types: list[str | None] = []
    for index, item in enumerate(list_value(value, "questions")):
        place = f"questions[{index}]"
        item = object_value(item, place, fields=("question", "answer", "type"))
        for name in ("question", "answer"):
            if name not in item:
                raise DataError("missing", field=f"{place}.{name}")
        types.append(text_value(item["type"], f"{place}.type") if "type" in item else None)
        fields = f"{place}.question", f"{place}.answer"
        segments += _turn(item["question"], item["answer"], index + 1, *fields)
    return segments, types


def chat(
    record: Mapping[str, Any], *, modalities: Mapping[str, Modality], root: Path
) -> tuple[list[Segment], set[str]]:
    """The messages as turn 1, and the names of the fields whose files they took.

    A placeholder ``<image>`` in a text, or a part of type ``image``, takes the next file of ``images``; or of
    ``image``, which is content of the sample if no placeholder asks for it. Raises DataError if the number of
    placeholders is not the number of files, and for an unknown role or type of part.
    """
    pieces = [
        piece
        for index, message in enumerate(list_value(record["messages"], "messages"))
        for piece in _message(message, f"messages[{index}]", modalities, root)
    ]
    wanted: dict[str, list[int]] = defaultdict(list)
    for position, piece in enumerate(pieces):
        if piece.value is None:
            wanted[piece.modality].append(position)
    taken = set()
    for name, modality in modalities.items():
        field = name if plural(name) not in record else plural(name)
        if name == TEXT or not (wanted[name] or field != name):
            continue
        given = record.get(field)
        files = (
            [] if given is None else list(media_values(field, given, name=name, modality=modality, root=root))
        )
        if len(files) != len(wanted[name]):
            raise DataError(
                f"the messages have {len(wanted[name])} <{name}>, the field has {len(files)} "
                f"{'file' if len(files) == 1 else 'files'}",
                field=field if field in record else plural(name),
            )
        taken.add(field)
        for position, (place, value) in zip(wanted[name], files, strict=True):
            pieces[position] = replace(pieces[position], value=value, field=place)
    return pieces, taken


def _turn(question: Any, answer: Any, turn: int, question_field: str, answer_field: str) -> list[Segment]:
    question, answer = text_value(question, question_field), text_value(answer, answer_field)
    return [
        Segment(TEXT, question, role="user", turn=turn, field=question_field),
        Segment(TEXT, answer, role="assistant", target=True, turn=turn, field=answer_field),
    ]


def _message(value: Any, place: str, modalities: Mapping[str, Modality], root: Path) -> Iterator[Segment]:
    """The segments of one message; the value of a placeholder is None until its file is known."""
    message = object_value(value, place, fields=("role", "content"))
    for name in ("role", "content"):
        if name not in message:
            raise DataError("missing", field=f"{place}.{name}")
    role, content = message["role"], message["content"]
    if role not in ROLES:
        raise DataError(f"unknown role {role!r}{nearest(str(role), ROLES)}", field=f"{place}.role")
    field = f"{place}.content"
    if isinstance(content, list):
        for index, part in enumerate(list_value(content, field)):
            yield _part(part, f"{field}[{index}]", role, modalities, root)
    else:
        yield from _text_with_placeholders(text_value(content, field), field, role, modalities)


def _text_with_placeholders(
    text: str, field: str, role: str, modalities: Mapping[str, Modality]
) -> Iterator[Segment]:
    placeholders = {f"<{name}>": name for name in modalities if name != TEXT}
    pattern = "|".join(re.escape(placeholder) for placeholder in placeholders)
    pieces = re.split(f"({pattern})", text) if pattern else [text]
    if len(pieces) > 1:  # the line breaks around a placeholder belong to the layout, not to the text
        pieces = [piece.strip() for piece in pieces if piece.strip()]
    for piece in pieces:
        if piece in placeholders:
            yield Segment(placeholders[piece], None, role=role, turn=1, field=field)
        else:
            yield Segment(TEXT, piece, role=role, target=role == "assistant", turn=1, field=field)


def _part(value: Any, place: str, role: str, modalities: Mapping[str, Modality], root: Path) -> Segment:
    kind = text_value(object_value(value, place).get("type"), f"{place}.type")
    if kind not in modalities:
        raise DataError(f"unknown type {kind!r}{nearest(kind, modalities)}", field=f"{place}.type")
    part = object_value(value, place, fields=("type", kind))
    if kind == TEXT:
        text = text_value(part.get(TEXT), f"{place}.text")
        return Segment(TEXT, text, role=role, target=role == "assistant", turn=1, field=f"{place}.text")
    found = None
    if kind in part:
        field = f"{place}.{kind}"
        values = list(media_values(field, part[kind], name=kind, modality=modalities[kind], root=root))
        if len(values) > 1:
            raise DataError("expected one file, found a list", field=field)
        found = values[0][1]
    return Segment(kind, found, role=role, turn=1, field=place)
