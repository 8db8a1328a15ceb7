"""What a model card says of its licence, and what a user must be told of that when the model is loaded."""

from __future__ import annotations

import re
from pathlib import Path

_LARGEST = 1_000_000
_FENCE = "---"
_FIELD = re.compile(r"(license|license_name):\s*(.*)")
_FORBIDS = re.compile(r"\bnc\b|non-?commercial|research|amlr|deepfloyd", re.IGNORECASE)
_UNCLEAR = re.compile(r"other\b|unknown\b", re.IGNORECASE)


def licence(directory: Path | str) -> str | None:
    """The ``license`` in the front matter of README.md, with ``license_name`` where it is ``other``.

    None where the card is absent or does not say. Reads plain scalars and lists; nothing else of YAML.
    """
    try:
        with (Path(directory) / "README.md").open(encoding="utf-8", errors="replace") as stream:
            lines = stream.read(_LARGEST).splitlines()
    except OSError:
        return None
    if not lines or lines[0].rstrip() != _FENCE or _FENCE not in (fenced := [x.rstrip() for x in lines[1:]]):
        return None
    fields: dict[str, list[str]] = {}
    name = ""
    for line in fenced[: fenced.index(_FENCE)]:
        if found := _FIELD.fullmatch(line):
            name = found[1]
            fields[name] = [item for part in found[2].strip("[]").split(",") if (item := _scalar(part))]
        elif name and re.match(r"\s*- ", line):
            fields[name].append(_scalar(line.strip()[2:]))
        else:
            name = ""
    said = ", ".join(fields.get("license", ()))
    if said == "other" and fields.get("license_name"):
        said = f"other ({', '.join(fields['license_name'])})"
    return said or None


def notice(licence: str | None) -> str | None:
    """The sentence that a user is shown at load: where commercial use is forbidden, or has to be looked up."""
    if licence is None:
        return None
    if _FORBIDS.search(licence):
        return f"the licence of these weights, {licence}, forbids commercial use"
    if _UNCLEAR.match(licence):
        return (
            f"the licence of these weights is given as {licence!r}: read the model card before commercial use"
        )
    return None


def _scalar(text: str) -> str:
    return re.sub(r"\s+#.*", "", text).strip().strip("'\"")
