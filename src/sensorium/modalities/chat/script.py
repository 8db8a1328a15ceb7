"""A conversation as one sequence of tokens: rendered, with places held for media, and with what is learnt of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from ...core import ConfigError, DataError
from ...core.modality import Medium
from ..vocabularies.families import Engine
from ..vocabularies.library import LibraryVocabulary
from .answers import Answers
from .form import Form
from .messages import TEXT, Message, Part, place
from .placeholders import Placeholder
from .reserved import Reserved
from .template import ChatTemplate


@dataclass(frozen=True)
class Script:
    """Tokens, and which of them are learnt to be produced."""

    ids: list[int]
    learnt: list[bool]


def place_of(engine: Engine, kind: str, placeholder: Placeholder) -> int:
    """The token that holds the place of a row of features of a modality. Raises ConfigError."""
    token = placeholder.token
    found = engine.id(token)
    if found is None or token not in engine.added:
        raise ConfigError(f"the vocabulary has no special token {token!r}, the placeholder of {kind}")
    return found


@final
class Scribe:
    """Writes conversations as a template and a vocabulary say; ``ends`` are the tokens that end what a model writes.

    Special tokens and placeholders come from the template and from ``placeholders`` alone: in what people say they are
    plain text. What stands between them, of the template and of people, is tokenised as one text, as the tokenizer of
    the reference does with the rendered conversation.
    """

    def __init__(
        self,
        *,
        engine: LibraryVocabulary,
        template: ChatTemplate,
        placeholders: Mapping[str, Placeholder],
        unknown: int | None = None,
        ends: Collection[int] = (),
    ) -> None:
        self._engine, self._template, self._placeholders = engine, template, placeholders
        written = {kind: one.written for kind, one in placeholders.items()}
        self._kinds = {text: kind for kind, text in written.items()}
        special = {text for text, is_special in engine.added.items() if is_special}
        meant = {engine.id(text) for text in special} | {
            place_of(engine, kind, one) for kind, one in placeholders.items()
        }
        self._meant = meant - {None, unknown}  # tokens that plain text never has
        held = {*self._kinds, *(one.token for one in placeholders.values())}
        self._reserved = Reserved(special | held)
        stops = special | {text for text in engine.added if engine.id(text) in ends}
        self._form = Form(template, written)
        self._answers = Answers(template, Reserved(stops - held))
        self._cut = re.compile(f"({'|'.join(map(re.escape, sorted(self._kinds, key=len, reverse=True)))})")

    def write(self, messages: Sequence[Message], *, answer: bool) -> Script:
        """The tokens of ``messages``, whose parts are texts and ``Medium``.

        ``answer``: nothing is learnt, and the beginning of an answer follows. Raises DataError.
        """
        mark, spoken = self._literally(messages)
        if answer:
            text = self._template.render([self._form.content(one) for one in spoken], prompt=True)
            learnt: list[tuple[int, int]] = []
        else:
            text, learnt = self._answers.find(spoken, [self._form.content(one) for one in spoken])
        return self._tokens(list(self._expanded(text, learnt, messages)), mark)

    def size(self, part: Part) -> int:
        """About how many tokens a part becomes."""
        if part.kind == TEXT:
            return len(self._engine.plain(part.value, start=False))
        return len(self._placeholders[part.kind].expand(part.value.values, part.value.layout))

    def end(self) -> int | None:
        """The token that the template writes after an answer; None if it writes none or cannot tell answers."""
        question, answer = Message("user", (Part(TEXT, "?"),)), Message("assistant", (Part(TEXT, "!"),), True)
        messages = [question, answer]
        try:
            text, learnt = self._answers.find(messages, [self._form.content(one) for one in messages])
        except (ConfigError, DataError):
            return None
        last = list(self._engine.split(text[: learnt[-1][1]]))[-1] if learnt else ("", False)
        return self._engine.id(last[0]) if last[1] else None

    def _literally(self, messages: Sequence[Message]) -> tuple[str, list[Message]]:
        """A mark, and ``messages`` with it inside of all that would be taken for a special token."""
        texts = [part.value for message in messages for part in message.parts if part.kind == TEXT]
        (mark,) = self._template.marks(1, texts)

        def spoken(part: Part) -> Part:
            return part if part.kind != TEXT else Part(TEXT, self._reserved.literally(part.value, mark))

        return mark, [replace(one, parts=tuple(map(spoken, one.parts))) for one in messages]

    def _expanded(
        self, text: str, learnt: Sequence[tuple[int, int]], messages: Sequence[Message]
    ) -> Iterator[tuple[str, bool]]:
        """``text`` with every placeholder expanded, in pieces that are learnt or not."""
        media: dict[str, list[tuple[str, Medium]]] = {kind: [] for kind in self._placeholders}
        for number, message in enumerate(messages):
            for index, part in enumerate(message.parts):
                if part.kind != TEXT:
                    media[part.kind].append((place(number, index), part.value))
        pieces = self._cut.split(text) if self._kinds else [text]
        self._check_counts(Counter(pieces[1::2]), media)
        begin, left = 0, {kind: iter(found) for kind, found in media.items()}
        for index, piece in enumerate(pieces):
            end = begin + len(piece)
            if index % 2:
                kind = self._kinds[piece]
                _, medium = next(left[kind])
                yield "".join(self._placeholders[kind].expand(medium.values, medium.layout)), False
            else:
                yield from _divided(text, begin, end, learnt)
            begin = end

    def _check_counts(
        self, written: Mapping[str, int], media: Mapping[str, Sequence[tuple[str, Any]]]
    ) -> None:
        for text, kind in self._kinds.items():
            count, given = written.get(text, 0), media[kind]
            if count != len(given):
                places = ", ".join(name for name, _ in given[:8]) or "no message"
                raise DataError(
                    f"{self._template.name} writes {count} {text!r} for {len(given)} of {kind} ({places})",
                    field=given[0][0] if given else "messages",
                )

    def _tokens(self, pieces: Sequence[tuple[str, bool]], mark: str) -> Script:
        text = "".join(piece for piece, _ in pieces)
        flags = _Flags(pieces)
        ids: list[int] = []
        learnt: list[bool] = []
        at = 0
        for part, is_added in self._engine.split(text):
            at = text.index(part, at)  # white space beside a token may be left out
            if is_added:
                ids.append(self._engine.id(part))  # type: ignore[arg-type]  # an added token has a number
                learnt.append(flags.any(at, at + len(part)))
            else:
                found, flagged = self._plain(part, at, mark, flags)
                ids += found
                learnt += flagged
            at += len(part)
        return Script(ids, learnt)

    def _plain(self, part: str, at: int, mark: str, flags: _Flags) -> tuple[list[int], list[bool]]:
        """The tokens of a stretch without special tokens, and which are learnt."""
        ids = self._engine.plain(part.replace(mark, ""), start=at == 0)
        if self._meant.isdisjoint(ids):
            return ids, self._learnt(part, at, mark, flags, len(ids))
        # Even as plain text it holds a string that the vocabulary knows whole: what is marked stays apart.
        learnt: list[bool] = []
        ids = []
        for piece in part.split(mark):
            found = self._engine.plain(piece, start=at == 0)
            if not self._meant.isdisjoint(found):
                raise DataError(f"{piece[:80]!r} cannot be told from a special token in this vocabulary")
            ids += found
            learnt += self._learnt(piece, at, mark, flags, len(found))
            at += len(piece) + 1
        return ids, learnt

    def _learnt(self, part: str, at: int, mark: str, flags: _Flags, count: int) -> list[bool]:
        """Which of the ``count`` tokens of a stretch are learnt: those with a character that is."""
        if flags.all(at, at + len(part)):
            return [True] * count
        if not flags.any(at, at + len(part)):
            return [False] * count
        places = [at + index for index, letter in enumerate(part) if letter != mark]
        spans = self._engine.spans(part.replace(mark, ""), start=at == 0)
        return [first < last and flags.any(places[first], places[last - 1] + 1) for first, last in spans]


class _Flags:
    """Which characters of a text in pieces are learnt."""

    def __init__(self, pieces: Sequence[tuple[str, bool]]) -> None:
        self._flags = b"".join((b"\1" if learnt else b"\0") * len(piece) for piece, learnt in pieces)

    def any(self, begin: int, end: int) -> bool:
        return self._flags.find(1, begin, end) >= 0

    def all(self, begin: int, end: int) -> bool:
        return self._flags.find(0, begin, end) < 0


def _divided(
    text: str, begin: int, end: int, learnt: Sequence[tuple[int, int]]
) -> Iterator[tuple[str, bool]]:
    """The stretch of ``text`` in pieces that are learnt or not."""
    for first, last in learnt:
        if last <= begin or first >= end:
            continue
        first, last = max(first, begin), min(last, end)
        yield text[begin:first], False
        yield text[first:last], True
        begin = last
    yield text[begin:end], False
