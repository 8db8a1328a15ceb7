"""The words of a chat model: a whole conversation as one sequence of tokens, with places held for media."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from jaxtyping import Int
from torch import Tensor

from ...core import CapabilityError, ConfigError, DataError, Segment, nearest
from ...core.modality import Asked, Composed, Composer, Medium
from ..pretrained_text import PretrainedText
from ..vocabularies import Vocabulary
from ..vocabularies.files import PROCESSOR_TEMPLATE, TEMPLATE
from ..vocabularies.library import LibraryVocabulary
from .fresh import add_tokens, learn_vocabulary
from .instruction import Instruction
from .messages import TEXT, Message, Part, from_segments, place
from .placeholders import Placeholder
from .script import Scribe, place_of
from .template import ChatTemplate
from .templates import PLAIN, TURNS

_DEFAULT = "default"  # the name of a checkpoint's usual template


@final
class Conversation(Composer):
    """Messages as int64 tokens [t], as the checkpoint's chat template and vocabulary write them.

    The vocabulary is a checkpoint's (see ``PretrainedText``), read by ``load(directory)`` or from ``checkpoint``; or,
    with ``vocabulary``, one of that many byte-level tokens that ``fit`` learns. ``special`` are special tokens that it
    gets if it lacks them. ``placeholders`` say, for each modality besides text, what is written for a medium.

    The template is the source in ``template``, else the checkpoint's, else ``fallback``, else, for a vocabulary that is
    learnt, ``templates.PLAIN``. ``variables`` are further names that it uses. With ``begin``, ``bos`` comes before a
    conversation whose template writes none; by default where the reference has it so: in models with
    ``placeholders`` whose vocabulary puts it before every text.

    With ``instruction``, what is asked is told in a second vocabulary as well, for networks whose reading of a medium
    depends on it; then no two questions of a sample share its media. A vocabulary that is learnt serves for both.

    What people write is plain text: special tokens and placeholders in it are not taken for such. A conversation of
    more than ``max_tokens`` is a DataError.
    """

    name: ClassVar[str] = TEXT
    extensions: ClassVar[tuple[str, ...]] = PretrainedText.extensions
    inline: ClassVar[bool] = True

    def __init__(
        self,
        *,
        checkpoint: str | None = None,
        template: str | None = None,
        fallback: str | None = None,
        placeholders: dict[str, Placeholder] | None = None,
        variables: dict[str, Any] | None = None,
        special: list[str] | None = None,
        vocabulary: int | None = None,
        begin: bool | None = None,
        max_tokens: int | None = None,
        max_characters: int = 1_000_000,
        instruction: Instruction | None = None,
    ) -> None:
        special = special or []
        least = 256 + 2 + len(TURNS) + len(special) + 2 * len(placeholders or {})
        if vocabulary is not None and vocabulary < least:
            raise ConfigError(
                f"Conversation.vocabulary must be at least {least} (all bytes and special tokens), found {vocabulary}"
            )
        if max_tokens is not None and max_tokens < 1:
            raise ConfigError(f"Conversation.max_tokens must be at least 1, found {max_tokens}")
        written = {kind: one.written for kind, one in (placeholders or {}).items()}
        if TEXT in written or len(set(written.values())) < len(written):
            raise ConfigError(
                f"Conversation.placeholders: expected one for each modality besides text, found {written}"
            )
        self.template, self.fallback, self.variables = template, fallback, variables or {}
        self.placeholders, self.special, self.vocabulary = placeholders or {}, special, vocabulary
        self.begin, self.max_tokens, self.instruction = begin, max_tokens, instruction
        self._words = PretrainedText(checkpoint=checkpoint, max_characters=max_characters)
        self._scribe: Scribe | None = None

    @property
    def vocabulary_size(self) -> int:
        """The highest token there is, and one."""
        return self._opened().engine.size

    @property
    def pad(self) -> int | None:
        """The token that fills a batch; None if the vocabulary has none."""
        return self._words.pad

    @property
    def bos(self) -> int | None:
        """The token that begins a text; None if the vocabulary has none."""
        return self._words.bos

    @property
    def eos(self) -> frozenset[int]:
        """The tokens that end what a model writes: the checkpoint's, and that which its template writes at the end."""
        end = None if self._source() is None else self._open().end()
        return self._opened().ends | (set() if end is None else {end})

    @property
    def places(self) -> dict[str, int]:
        """For each modality besides text, the token that holds the place of one row of its features."""
        engine = self._opened().engine
        return {kind: place_of(engine, kind, one) for kind, one in self.placeholders.items()}

    @property
    def draws(self) -> bool:
        """Whether training augments."""
        return False

    def read(self, source: Any) -> str:
        """A string as it is; the content of a UTF-8 file for a ``Path`` or bytes. Raises DataError."""
        return self._words.read(source)

    def check(self, raw: str) -> None:
        """Raise DataError for blank text, more than ``max_characters``, and half characters (surrogates)."""
        self._words.check(raw)

    def prepare(self, raw: str, generator: torch.Generator | None = None) -> Int[Tensor, "t"]:
        """The tokens of a text by itself, in no message."""
        return torch.tensor(self._opened().engine.plain(raw, start=True), dtype=torch.long)

    def compose(
        self, segments: Sequence[Segment], media: Sequence[Medium | None], *, answer: bool = False
    ) -> Composed:
        """The sequence of a sample, and which of its tokens are learnt: those of the assistant's targets.

        What is learnt of the sample itself (a caption) and each turn after turn 0 are conversations of their own, which
        begin with what turn 0 gives: as branches of one sequence, with their beginning once. ``answer``: nothing is
        learnt, and the beginning of an answer follows. Raises DataError naming ``messages[i].content[j]`` or the
        field.
        """
        given = [
            replace(segment, value=self._text(segment) if medium is None else medium)
            for segment, medium in zip(segments, media, strict=True)
        ]
        apart = _conversations(given, apart=not answer)
        told = [from_segments(one) for one in apart]
        found = [self._composed(messages, answer=answer) for messages in told]
        whole = found[0] if len(found) == 1 else _branched(found, share=self.instruction is None)
        if self.instruction is None:
            return whole
        numbers = {id(segment): number for number, segment in enumerate(given)}
        asked = [
            Asked(numbers[id(segment)], self.instruction.write(messages))
            for one, messages in zip(apart, told, strict=True)
            for segment in sorted(one, key=lambda segment: segment.turn)
            if segment.modality != TEXT
        ]
        return replace(whole, asked=tuple(asked))

    def asked(self, messages: Sequence[Message]) -> Int[Tensor, "k"] | None:
        """What ``messages`` ask about their media, in the second vocabulary; None where there is none."""
        return None if self.instruction is None else self.instruction.write(messages)

    def prompt(self, messages: Sequence[Message], media: Sequence[Medium] = ()) -> Int[Tensor, "t"]:
        """The tokens of ``messages`` and the beginning of an answer; ``media`` are what was prepared of all parts that
        are no text, in their order. Raises DataError naming the message and the part.
        """
        wanted = sum(part.kind != TEXT for message in messages for part in message.parts)
        if wanted != len(media):
            raise DataError(
                f"the messages have {wanted} parts that are no text, {len(media)} media are given"
            )
        left = iter(media)

        def filled(part: Part) -> Part:
            return part if part.kind == TEXT else Part(part.kind, next(left))

        given = [replace(one, parts=tuple(map(filled, one.parts))) for one in messages]
        return self._composed(given, answer=True).values

    def decode(self, ids: Sequence[int] | Int[Tensor, "t"]) -> str:
        """The text of tokens, special ones left out. Raises DataError."""
        return self._words.decode(ids)

    def token(self, number: int) -> str:
        """How the vocabulary writes a token, which may be a part of a word or of a character."""
        return self._engine().token(number)

    def blank(self) -> Int[Tensor, "t"]:
        """One token."""
        return torch.zeros(1, dtype=torch.long)

    def size(self, raw: str) -> tuple[float, str]:
        """The number of characters."""
        return self._words.size(raw)

    def show(self, raw: str) -> str:
        """A paragraph."""
        return self._words.show(raw)

    def fit(self, raws: Iterable[str]) -> None:
        """Learn the vocabulary, or read ``checkpoint``. Raises ConfigError if there is neither and none was loaded."""
        if self.vocabulary is not None:
            held = [text for one in self.placeholders.values() for text in (one.written, one.token)]
            learnt = learn_vocabulary(raws, size=self.vocabulary, special=[*held, *self.special])
            self._use(learnt)
            if self.instruction is not None:
                self.instruction.use(learnt)
        self._opened()

    def save(self, directory: Path) -> None:
        """Write the files that ``load`` and the reference read, with the template."""
        opened, source = self._opened(), self._source()
        self._words.save(directory)
        if self.instruction is not None:
            self.instruction.save(directory)
        if source is not None and source != opened.templates.get(_DEFAULT):
            (directory / PROCESSOR_TEMPLATE).unlink(missing_ok=True)
            (directory / TEMPLATE).write_text(source, encoding="utf-8")

    def load(self, directory: Path) -> None:
        """Read a checkpoint's directory. Raises CheckpointError naming the file and the field that is wrong."""
        self._words.load(directory)
        if self.instruction is not None:
            self.instruction.load(directory)
        self._scribe = None

    def __getstate__(self) -> dict[str, Any]:  # an open vocabulary cannot be sent to other processes
        return self.__dict__ | {"_scribe": None}

    def _opened(self) -> Vocabulary:
        """The vocabulary, with ``special`` in it."""
        opened = self._words.opened
        missing = [token for token in self.special if token not in opened.engine.added]
        if missing:
            self._use(add_tokens(opened.files, missing))
        return self._words.opened

    def _use(self, files: Mapping[str, bytes]) -> None:
        self._words.use(files)
        self._scribe = None

    def _engine(self) -> LibraryVocabulary:
        engine = self._opened().engine
        if not isinstance(engine, LibraryVocabulary):
            raise CapabilityError("this vocabulary is not for conversations: it has no tokens for turns")
        return engine

    def _source(self) -> str | None:
        """The template, if there is one."""
        if self.template is not None:
            return self.template
        found = self._opened().templates.get(_DEFAULT, self.fallback)
        return PLAIN if found is None and self.vocabulary is not None else found

    def _open(self) -> Scribe:
        if self._scribe is None:
            self._scribe = self._made()
        return self._scribe

    def _made(self) -> Scribe:
        opened, source = self._opened(), self._source()
        if source is None:
            named = ", ".join(opened.templates)
            found = f"only ones named {named}" if named else "none"
            raise ConfigError(f"there is no chat template: the checkpoint has {found}; give template=SOURCE")
        engine = self._engine()
        contents = {engine.id(content): content for content in engine.added}
        roles = {f"{role}_token": contents[n] for role, n in opened.special.items() if n in contents}
        return Scribe(
            engine=engine,
            template=ChatTemplate(source, variables=roles | self.variables),
            placeholders=self.placeholders,
            unknown=opened.special["unk"],
            ends=opened.ends,
        )

    def _first(self) -> list[int]:
        """``bos``, if it comes before a conversation whose template writes none."""
        bos, begin = self.bos, self.begin
        if begin is None and bos is not None:
            begin = bool(self.placeholders) and self._opened().engine.encode("")[:1] == [bos]
        return [bos] if begin and bos is not None else []

    def _text(self, segment: Segment) -> str:
        try:
            return self.load_value(segment.value)
        except DataError as error:
            raise error.at(field=segment.field or None) from None

    def _composed(self, messages: Sequence[Message], *, answer: bool) -> Composed:
        self._check(messages, answer=answer)
        script = self._open().write(messages, answer=answer)
        ids, learnt = script.ids, script.learnt
        if (first := self._first()) != ids[:1]:
            ids, learnt = [*first, *ids], [*(False for _ in first), *learnt]
        if self.max_tokens is not None and len(ids) > self.max_tokens:
            raise self._too_long(messages, len(ids))
        if not (answer or any(learnt)):
            raise DataError("there is nothing to learn: the assistant says nothing that is a target")
        return Composed(torch.tensor(ids, dtype=torch.long), torch.tensor(learnt, dtype=torch.bool))

    def _check(self, messages: Sequence[Message], *, answer: bool) -> None:
        if not messages:
            raise DataError("the conversation is empty: expected at least one message", field="messages")
        for number, message in enumerate(messages):
            for index, part in enumerate(message.parts):
                field = place(number, index)
                if part.kind != TEXT and part.kind not in self.placeholders:
                    known = [TEXT, *self.placeholders]
                    raise DataError(
                        f"this model reads no {part.kind}{nearest(part.kind, known)}", field=field
                    )
                if part.kind == TEXT:
                    try:
                        self.check(part.value)
                    except DataError as error:
                        raise error.at(field=field) from None
        if answer and messages[-1].role == "assistant":
            raise DataError(
                "an answer was asked for, but the last message is one", field=place(len(messages) - 1)
            )

    def _too_long(self, messages: Sequence[Message], count: int) -> DataError:
        sizes = {
            (number, index): self._open().size(part)
            for number, message in enumerate(messages)
            for index, part in enumerate(message.parts)
        }
        (number, index), most = max(sizes.items(), key=lambda item: item[1])
        return DataError(
            f"the conversation has {count:,} tokens, the limit is {self.max_tokens:,}; this part, "
            f"{messages[number].parts[index].kind}, is the longest with {most:,}",
            field=place(number, index),
        )


def _conversations(segments: Sequence[Segment], *, apart: bool) -> list[list[Segment]]:
    """The segments of each conversation of a sample."""
    turns = sorted({segment.turn for segment in segments} - {0}) if apart else []
    common = [segment for segment in segments if segment.turn == 0]
    told = [segment for segment in common if not segment.target]
    own = [common] if len(told) < len(common) or not turns else []
    return (
        [list(segments)]
        if not apart
        else own + [[*told, *(one for one in segments if one.turn == turn)] for turn in turns]
    )


def _branched(found: Sequence[Composed], *, share: bool) -> Composed:
    """Several sequences as branches of one, after all that they have in common, if they ``share`` it. At least one
    token of each is left.
    """
    first = found[0].values
    common = min(len(one.values) for one in found) - 1 if share else 0
    for one in found[1:]:
        differ = (one.values[:common] != first[:common]).nonzero()
        common = int(differ[0]) if len(differ) else common
    for one in found:  # what is learnt of one is not told to the others
        learnt = one.learnt[:common].nonzero()
        common = int(learnt[0]) if len(learnt) else common
    rests = [one.values[common:] for one in found]
    numbers = [torch.full_like(rest, number) for number, rest in enumerate(rests, 1)]
    return Composed(
        torch.cat([first[:common], *rests]),
        torch.cat([found[0].learnt[:common], *(one.learnt[common:] for one in found)]),
        torch.cat([torch.zeros_like(first[:common]), *numbers]),
    )
