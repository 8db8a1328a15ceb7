"""Vocabularies of characters for connectionist temporal classification (Graves et al. 2006), as of wav2vec 2.0."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import final

from ...core import CapabilityError, CheckpointError
from .added import AddedTokens
from .files import CHARACTERS, CONFIG, Files, fields, ids
from .library import clean_up
from .settings import Settings, Special, Token, cut


@final
class CharacterVocabulary:
    """Each character is a token, ``pad`` is the blank, and a delimiter stands for the space between words.

    Tokens of several characters in ``vocab.json`` are found before single ones, with white space around them
    taken away.
    """

    def __init__(
        self,
        files: Files,
        settings: Settings,
        special: Special,
        limit: int | None,
        plain: bool,
    ) -> None:
        if CHARACTERS not in files:
            raise CheckpointError(f"expected {CHARACTERS}, found {', '.join(files)}")
        config, table = settings.config, fields(files, CHARACTERS)
        language = config.text("target_lang")
        known = ids(table if language is None else table.inner(language))
        self.files, self._limit = dict(files), limit
        self._left = settings.cuts_left
        self._lower = config.flag("do_lower_case")
        self._clean = config.flag("clean_up_tokenization_spaces")
        self._delimiter = config.text("word_delimiter_token") or "|"
        space = config.text("replace_word_delimiter_char")
        self._space = " " if space is None else space

        whole = {token.content: token for token in settings.tokens(special, known.__contains__)}
        self._ids = {token.content: number for number, token in settings.added.items()} | known
        for content in whole:
            self._ids.setdefault(content, len(self._ids))
        self._contents = {number: content for content, number in self._ids.items()}
        self.size = 1 + max(self._contents, default=-1)
        self._blank = special["pad"].content if special["pad"] else None
        unknown = special["unk"]
        if unknown is None or unknown.content not in known:
            raise CheckpointError(
                f"{CONFIG}: field 'unk_token': expected a token of {CHARACTERS}, found none"
            )
        self._unknown = unknown.content
        self._special = {content for content, token in whole.items() if token.special}
        whole |= {one: Token(one, lstrip=True, rstrip=True) for one in known if len(one) > 1}
        self.added: Mapping[str, bool] = {one: one in self._special for one in whole}
        self._whole = AddedTokens(whole.values())
        self._literal = AddedTokens(token for one, token in whole.items() if one not in self._special)
        self._split = self._literal if plain else self._whole

    def id(self, token: str) -> int | None:
        """The number of a token."""
        return self._ids.get(token)

    def encode(self, text: str) -> list[int]:
        """Tokens, without any around them."""
        return cut(self._encode(self._split, text), self._limit, self._left)

    def plain(self, text: str, *, start: bool) -> list[int]:
        """Tokens of a stretch of a longer text, special ones in it taken literally."""
        return self._encode(self._literal, text)

    def split(self, text: str) -> Iterator[tuple[str, bool]]:
        """The parts of a text, and whether each is a token of several characters."""
        return self._whole.split(text)

    def pair(self, first: str, second: str) -> tuple[list[int], list[int]]:
        """Transcripts have no pairs: raises CapabilityError."""
        raise CapabilityError("this vocabulary is for transcripts, and not for pairs of texts")

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        return self._text(
            token for token in self._tokens(numbers) if token == self._delimiter or token not in self._special
        )

    def decode_frames(self, numbers: Sequence[int]) -> str:
        """The text of the best token of each frame: repeats are one token, and blanks none."""
        return self._text(token for token, _ in groupby(self._tokens(numbers)))

    def _encode(self, added: AddedTokens, text: str) -> list[int]:
        found = []
        for part, whole in added.split(text):
            found += [part] if whole else self._characters(part)
        return [self._ids.get(token, self._ids[self._unknown]) for token in found]

    def _tokens(self, numbers: Sequence[int]) -> list[str]:
        return [self._contents.get(number, self._unknown) for number in numbers]

    def _text(self, tokens: Iterable[str]) -> str:
        kept = (token for token in tokens if token != self._blank)
        text = "".join(self._space if token == self._delimiter else token for token in kept).strip()
        text = text.lower() if self._lower else text
        return clean_up(text) if self._clean else text

    def _characters(self, text: str) -> list[str]:
        return list((text.upper() if self._lower else text).replace(" ", self._delimiter))
