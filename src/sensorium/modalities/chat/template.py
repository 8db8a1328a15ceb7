"""A chat template: how a model was taught to read a conversation, as a Jinja program that comes with its checkpoint."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from ...core import ConfigError, DataError
from .rendering import ask

_LONGEST = 1_000_000
_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
#: Characters that Unicode assigns to nobody, for marks that no text has.
_NONCHARACTERS = "".join(map(chr, range(0xFDD0, 0xFDF0)))
_ASSIGNED_TO_NOBODY = re.compile(f"[{_NONCHARACTERS}]")


@dataclass(frozen=True)
class Rendered:
    """A conversation as one text. ``generated`` are the stretches that the template says a model is to learn."""

    text: str
    generated: tuple[tuple[int, int], ...]


@final
class ChatTemplate:
    """Renders messages as the `transformers` package renders them (``apply_chat_template``), and safely.

    ``name`` is what errors call it. ``variables`` are further names that the template may use, such as ``bos_token``.

    The template runs in Jinja's sandbox, in a process of its own without files and keys, with 1 second of
    processor time per conversation, 512 MiB of memory and 16 Mi characters of text: one that loops or grows is a
    ConfigError, whatever it does. So is one with a mistake; a conversation that it refuses is a DataError.

    ``marks_answers`` says whether it has ``{% generation %}`` blocks, which tell what is to be learnt.
    """

    def __init__(
        self,
        source: str,
        *,
        name: str = "the chat template",
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        if len(source) > _LONGEST:
            raise ConfigError(f"{name}: has {len(source):,} characters, the limit is {_LONGEST:,}")
        self.source, self.name = source, name
        self.variables = dict(variables or {})
        self.marks_answers = _GENERATION.search(source) is not None
        self._else = [source, self.variables]

    def render(self, messages: Sequence[Mapping[str, Any]], *, prompt: bool = False) -> str:
        """The text of ``messages``, each a dict of ``role`` and ``content``. ``prompt``: then begins an answer."""
        return self.renders(messages, [(len(messages), prompt)])[0].text

    def renders(
        self, messages: Sequence[Mapping[str, Any]], jobs: Sequence[tuple[int, bool]]
    ) -> list[Rendered]:
        """The text of the first so many messages, and of a prompt or none after them, for each of ``jobs``."""
        begin, end = self.marks(2, messages)
        reply = ask(
            {
                "source": self.source,
                "variables": {"tools": None, "documents": None, **self.variables},
                "messages": messages,
                "jobs": jobs,
                "marks": [begin, end],
            }
        )
        if "refused" in reply:
            raise DataError(f"{self.name} does not take this conversation: {reply['refused']}")
        if "failed" in reply:
            raise ConfigError(f"{self.name}: {reply['failed']}")
        whole, *rest = reply["texts"]
        texts = [whole, *(whole[:one] if isinstance(one, int) else one for one in rest)]
        return [_without_marks(text, begin, end) for text in texts]

    def marks(self, count: int, messages: Any) -> list[str]:
        """So many characters that are neither in ``messages`` nor in what else is rendered. Raises DataError."""
        used = set(_ASSIGNED_TO_NOBODY.findall(json.dumps([messages, self._else], ensure_ascii=False)))
        free = [mark for mark in _NONCHARACTERS if mark not in used]
        if len(free) < count:
            raise DataError("the texts use all of the characters U+FDD0 to U+FDEF, which are not for text")
        return free[:count]


def _without_marks(text: str, begin: str, end: str) -> Rendered:
    if begin not in text:
        return Rendered(text, ())
    kept: list[str] = []
    spans: list[tuple[int, int]] = []
    length = 0
    for stretch in text.split(begin):
        for place, piece in enumerate(stretch.split(end)):
            if place == 0 and kept:
                spans.append((length, length + len(piece)))
            kept.append(piece)
            length += len(piece)
    return Rendered("".join(kept), tuple(spans))
