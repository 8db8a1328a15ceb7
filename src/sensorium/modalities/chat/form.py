"""How a template wants the content of a message: as text, or as a list of typed parts. It is found out by asking."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, final

from ...core import ConfigError, DataError
from .messages import TEXT, Message
from .template import ChatTemplate

_WORD = "Kalimera"  # a text that no template contains
_PRINTED = re.compile(r"""['"]text['"]:""")  # of a list of parts that a template wrote as it is


@final
class Form:
    """Writes messages as a template reads them.

    Where a template takes typed parts, they are given as such, else joined to one text. A medium for which the template
    writes nothing is written as its placeholder. ``written`` are the placeholders, by modality.
    """

    def __init__(self, template: ChatTemplate, written: Mapping[str, str]) -> None:
        self._template, self._written = template, written
        self._typed: dict[str, bool] = {}  # by role
        self._own: dict[str, bool] = {}  # by modality: whether the template writes its placeholder

    def content(self, message: Message) -> dict[str, Any]:
        """``message``, whose texts are as they are to be written, as the dict that the template reads."""
        if not self._takes_parts(message.role):
            texts = [part.value if part.kind == TEXT else self._written[part.kind] for part in message.parts]
            return {"role": message.role, "content": "".join(texts)}
        parts = [
            {"type": TEXT, TEXT: part.value}
            if part.kind == TEXT
            else {"type": part.kind}
            if self._writes(part.kind)
            else {"type": TEXT, TEXT: self._written[part.kind]}
            for part in message.parts
        ]
        return {"role": message.role, "content": parts}

    def _takes_parts(self, role: str) -> bool:
        if role not in self._typed:
            before, after = self._around(role)
            shown = self._shown([*before, {"role": role, "content": [_text(_WORD)]}, *after])
            self._typed[role] = _WORD in shown and not _PRINTED.search(shown)
        return self._typed[role]

    def _around(self, role: str) -> tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]:
        """Messages before and after one of this role, with which a template takes it."""
        if role == "user":
            return [], []
        question = {"role": "user", "content": [_text("?")] if self._takes_parts("user") else "?"}
        return ([], [question]) if role == "system" else ([question], [])

    def _writes(self, kind: str) -> bool:
        if not self._takes_parts("user"):
            return False
        if kind not in self._own:
            with_it = self._shown([{"role": "user", "content": [{"type": kind}, _text(_WORD)]}])
            without = self._shown([{"role": "user", "content": [_text(_WORD)]}])
            self._own[kind] = self._written[kind] in with_it
            if with_it not in ("", without) and not self._own[kind]:
                raise ConfigError(
                    f"{self._template.name}: for a part of type {kind!r} expected {self._written[kind]!r}, found "
                    f"{with_it[:200]!r} instead of {without[:200]!r}"
                )
        return self._own[kind]

    def _shown(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """What the template makes of messages; nothing if it cannot read them so."""
        try:
            return self._template.render(messages)
        except (ConfigError, DataError):
            return ""


def _text(text: str) -> dict[str, str]:
    return {"type": TEXT, TEXT: text}
