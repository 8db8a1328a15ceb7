"""Which characters of a rendered conversation are learnt: what the assistant says, and the token that ends it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from ...core import ConfigError
from .messages import TEXT, Message
from .reserved import Reserved
from .template import ChatTemplate

_AT_ONCE = 16  # answers that are looked for at a time: a long conversation is not held once for each


@final
class Answers:
    """Finds the answers in what a template writes.

    Where it has ``{% generation %}`` blocks, those. Else an answer is what follows the rendering of all before it with
    the prompt to answer, up to and including the first of ``stops``, the tokens that can end it, after its content.
    """

    def __init__(self, template: ChatTemplate, stops: Reserved) -> None:
        self._template, self._stops = template, stops

    def find(
        self, messages: Sequence[Message], contents: Sequence[Mapping[str, Any]]
    ) -> tuple[str, list[tuple[int, int]]]:
        """The rendered conversation, and the stretches of it in which the targets among ``messages`` are.

        ``contents`` are the same messages as the template reads them. Raises ConfigError for a template that writes
        otherwise what was said before once an answer follows: it must say by itself what is to be learnt.
        """
        targets = [place for place, message in enumerate(messages) if message.target]
        if self._template.marks_answers:
            return self._marked(messages, contents, targets)
        whole, spans = "", []
        for first in range(0, max(len(targets), 1), _AT_ONCE):
            some = targets[first : first + _AT_ONCE]
            jobs = [(len(messages), False), *((place + 1, False) for place in some)]
            jobs += [(place, True) for place in some if place]  # few templates render nothing
            jobs = list(dict.fromkeys(jobs))
            texts = {
                job: one.text for job, one in zip(jobs, self._template.renders(contents, jobs), strict=True)
            }
            whole = texts[len(messages), False]
            spans += [
                self._answer(messages[place], texts.get((place, True)), texts[place + 1, False], whole)
                for place in some
            ]
        return whole, spans

    def _marked(
        self, messages: Sequence[Message], contents: Sequence[Mapping[str, Any]], targets: Sequence[int]
    ) -> tuple[str, list[tuple[int, int]]]:
        if all(message.target or message.role != "assistant" for message in messages):
            whole = self._template.renders(contents, [(len(messages), False)])[0]
            return whole.text, list(whole.generated)
        whole, *rest = self._template.renders(
            contents, [(count, False) for count in (len(messages), *range(1, len(messages) + 1))]
        )
        counts = [0, *(len(one.generated) for one in rest)]
        return whole.text, [
            span for place in targets for span in whole.generated[counts[place] : counts[place + 1]]
        ]

    def _answer(self, message: Message, before: str | None, through: str, whole: str) -> tuple[int, int]:
        """The stretch of an answer, given what comes before it, if anything does, what is written with it, and all."""
        begin = None if before is None else len(before)
        end = begin or 0
        for part in message.parts:
            said = part.value.strip() if part.kind == TEXT else ""
            if said and (found := through.find(said, end)) >= 0:
                begin = found if begin is None else begin
                end = found + len(said)
        stop = next(self._stops.find(through, end), None)
        end = stop[1] if stop else len(through)
        if not (through.startswith(before or "") and whole.startswith(through[:end])):
            raise ConfigError(
                f"{self._template.name}: what is to be learnt cannot be found, as an answer changes what is written "
                "before it, or what follows changes the answer; put {% generation %} and {% endgeneration %} around "
                "the answers in the template"
            )
        return begin or 0, end
