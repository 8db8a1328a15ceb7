"""One record of a user's data, a dict of fields, as a Sample.

A line of JSON, a row of a table and the members of a shard all become the same dict first, so that the
same fields, rules and errors hold everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core import DataError, Modality, Sample, Segment, nearest
from . import dialogue
from .values import TEXT, media_values, name_value, object_value

#: Fields that every record may have, beside one for each modality.
FIELDS = ("key", "split", "group", "label", "labels", "attributes")
_RESERVED = ("label", "attributes", "types")


def known_fields(modalities: Mapping[str, Modality]) -> tuple[str, ...]:
    """The names of all fields that a record may have."""
    names = [*modalities, *FIELDS]
    if TEXT in modalities:
        names += dialogue.FIELDS
        names += [dialogue.plural(name) for name in modalities if name != TEXT]
    return tuple(dict.fromkeys(names))


def check_fields(names: Mapping[str, Any] | list[str], modalities: Mapping[str, Modality]) -> None:
    """Raises DataError for the first name that is no field."""
    known = known_fields(modalities)
    for name in names:
        if name not in known:
            reason = f"unknown field{nearest(name, known)}; your own values belong below 'labels'"
            raise DataError(reason, field=name)


def parse_record(
    record: Mapping[str, Any],
    *,
    modalities: Mapping[str, Modality],
    root: Path,
    file: str,
    line: int | None,
) -> Sample:
    """The Sample of a record. A field that is None is absent.

    ``root`` is the folder to which paths are relative and which they may not leave, without links.
    Without a ``key``, the key is ``<stem of the file>:<line>``. Raises DataError with file, line, key, field.
    """
    key: str | None = f"{Path(file).stem}:{line}"
    try:
        if record.get("key") is not None:
            key = None
            key = name_value(record["key"], "key")
        check_fields(record, modalities)
        present = {name: value for name, value in record.items() if value is not None}
        turns, types, taken = _turns(present, modalities, root)
        content = _content(present, modalities, root, taken)
        if not content and not turns:
            raise DataError(f"no modality at all: expected one or more of {', '.join(modalities)}")
        if "label" in present and TEXT in modalities and not _has_text([*content, *turns]):
            label = name_value(present["label"], "label")
            content.append(Segment(TEXT, label, target=True, field="label"))
        names = {name: name_value(present[name], name) for name in ("split", "group") if name in present}
        return Sample(
            key=str(key),
            segments=(*content, *turns),
            split=names.get("split"),
            group=names.get("group"),
            labels=_labels(present, types),
            file=file,
            line=line,
        )
    except DataError as error:
        raise error.at(key=key, file=file, line=line) from None


def _turns(
    record: Mapping[str, Any], modalities: Mapping[str, Modality], root: Path
) -> tuple[list[Segment], list[str | None] | None, set[str]]:
    """The segments of the dialogue, the types of the questions, and the fields that a chat took."""
    forms = [name for name in ("question", "questions", "messages") if name in record]
    if len(forms) > 1:
        raise DataError(f"expected only one of {' and '.join(forms)}", field=forms[1])
    for name in modalities:
        field = dialogue.plural(name)
        if name not in (TEXT, field) and field in record and "messages" not in record:
            raise DataError(f"belongs to a chat in 'messages'; without one, use {name!r}", field=field)
    if "messages" in record:
        segments, taken = dialogue.chat(record, modalities=modalities, root=root)
        return segments, None, taken
    if "questions" in record:
        return *dialogue.questions(record["questions"]), set()
    if "chosen" in record or "rejected" in record:
        return dialogue.preference(record), None, set()
    if "question" in record or "answer" in record:
        return dialogue.pair(record), None, set()
    return [], None, set()


def _content(
    record: Mapping[str, Any], modalities: Mapping[str, Modality], root: Path, taken: set[str]
) -> list[Segment]:
    """The things themselves in the order of the record, then what is said of them."""
    names = [name for name in record if name in modalities and name not in taken]
    names.sort(key=lambda name: name == TEXT)
    return [
        Segment(name, value, target=name == TEXT, field=field)
        for name in names
        for field, value in media_values(name, record[name], name=name, modality=modalities[name], root=root)
    ]


def _has_text(segments: list[Segment]) -> bool:
    return any(segment.modality == TEXT for segment in segments)


def _labels(record: Mapping[str, Any], types: list[str | None] | None) -> dict[str, Any]:
    labels = object_value(record.get("labels", {}), "labels")
    for name in _RESERVED:
        if name in labels:
            raise DataError(
                "this name is taken by a field of its own; choose another", field=f"labels.{name}"
            )
    if "label" in record:
        labels["label"] = name_value(record["label"], "label")
    if "attributes" in record:
        labels["attributes"] = object_value(record["attributes"], "attributes")
    if types is not None:
        labels["types"] = types
    return labels
