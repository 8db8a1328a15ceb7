"""Vocabularies that the `tokenizers` library runs: BPE, WordPiece and unigram models with a family's rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, final

from ...core import CheckpointError, ConfigError, SensoriumError
from .added import AddedTokens
from .files import (
    CHARACTERS,
    CONFIG,
    LIBRARY,
    MERGES,
    WORD_PIECES,
    Fields,
    Files,
    fields,
    ids,
    lines,
)
from .literal import Stretches, take_literally
from .pipelines import Named
from .settings import Settings, Special, Token

_CLEAN = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")

#: What a family puts onto a vocabulary, and how it reads one from files other than ``tokenizer.json``.
Dress = Callable[[Any, Named, Fields], None]
Read = Callable[[Files, Special], Any]


@final
class LibraryVocabulary:
    """Encodes and decodes by a tokenizer of the library; ``files`` are what is saved of it."""

    def __init__(
        self, tokens: Any, files: dict[str, bytes], *, limit: int | None, side: str, plain: bool, clean: bool
    ) -> None:
        self.files = files
        self.size = 1 + max(tokens.get_vocab(with_added_tokens=True).values())
        self._tokens, self._clean = tokens, clean and type(tokens.model).__name__ != "BPE"
        self._suffix = getattr(tokens.model, "end_of_word_suffix", None)
        known = tokens.get_added_tokens_decoder()
        self.added: Mapping[str, bool] = {one.content: one.special for _, one in sorted(known.items())}
        self._stretches = Stretches(tokens)
        tokens.no_padding()
        tokens.no_truncation()
        if limit is not None:
            least = tokens.num_special_tokens_to_add(True)
            if limit <= least:
                raise ConfigError(f"max_tokens must be more than the {least} special tokens, found {limit}")
            tokens.enable_truncation(limit, strategy="longest_first", direction=side)
        if plain:
            take_literally(tokens)

    def id(self, token: str) -> int | None:
        """The number of a token."""
        return self._tokens.token_to_id(token)

    def token(self, number: int) -> str:
        """How the vocabulary writes a token; bytes of byte-level vocabularies as the text they are a part of."""
        if (added := self._tokens.get_added_tokens_decoder().get(number)) is not None:
            return added.content
        return self._tokens.decode([number], skip_special_tokens=False)

    def encode(self, text: str) -> list[int]:
        """Tokens with the special ones around them."""
        with _named(LIBRARY):
            return self._tokens.encode(text).ids

    def plain(self, text: str, *, start: bool) -> list[int]:
        """Tokens of a stretch of a longer text, special ones in it taken literally."""
        with _named(LIBRARY):
            return self._stretches.encode(text, start=start).ids

    def spans(self, text: str, *, start: bool) -> list[tuple[int, int]]:
        """For each token of ``plain``, the places in the text where what it stands for begins and ends."""
        with _named(LIBRARY):
            return self._stretches.encode(text, start=start).offsets

    def split(self, text: str) -> Iterator[tuple[str, bool]]:
        """The parts of a text, and whether each is an added token."""
        return self._added_tokens.split(text)

    def pair(self, first: str, second: str) -> tuple[list[int], list[int]]:
        """Tokens of two texts, and which text each belongs to."""
        with _named(LIBRARY):
            found = self._tokens.encode(first, second)
        return found.ids, found.type_ids

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        text = self._tokens.decode(numbers, skip_special_tokens=True)
        if self._suffix:
            text = text.replace(self._suffix, " ").strip()
        return clean_up(text) if self._clean else text

    @cached_property
    def _added_tokens(self) -> AddedTokens:
        known = self._tokens.get_added_tokens_decoder().values()
        return AddedTokens(Token(one.content, one.lstrip, one.rstrip, one.single_word) for one in known)


def open_library(
    files: Files,
    settings: Settings,
    special: Special,
    limit: int | None,
    plain: bool,
    *,
    dress: Dress,
    read: Read,
) -> LibraryVocabulary:
    """The vocabulary in ``files``. Those that it has not are added: ``tokenizer.json``."""
    with _named(LIBRARY if LIBRARY in files else "the vocabulary"):
        tokens = _saved(files) if LIBRARY in files else read(files, special)
        config = settings.config
        if LIBRARY in files:  # which says itself what stands around a text
            config = config.without("add_bos_token", "add_eos_token")
        _add(tokens, settings, special)
        named = {
            role: token.content
            for role, token in special.items()
            if token and tokens.token_to_id(token.content) is not None
        }
        dress(tokens, named, config)
        saved = dict(files)
        if LIBRARY not in files:
            saved[LIBRARY] = tokens.to_str(pretty=True).encode()
        return LibraryVocabulary(
            tokens,
            saved,
            limit=limit,
            side="left" if settings.cuts_left else "right",
            plain=plain,
            clean=settings.config.flag("clean_up_tokenization_spaces"),
        )


def read_byte_pairs(suffix: str = "", unknown: bool = False) -> Read:
    """Reads ``vocab.json`` and ``merges.txt``; ``suffix`` marks the end of a word."""

    def read(files: Files, special: Special) -> Any:
        from tokenizers import Tokenizer, models

        _need(files, CHARACTERS, MERGES)
        pairs: list[Any] = [
            tuple(line.split(" ")) for line in lines(files, MERGES) if not line.startswith("#version")
        ]
        wrong = next((place for place, pair in enumerate(pairs) if len(pair) != 2), None)
        if wrong is not None:
            raise CheckpointError(f"{MERGES}: expected two tokens, found {' '.join(pairs[wrong])[:80]!r}")
        tokens = Tokenizer(
            models.BPE(
                vocab=ids(fields(files, CHARACTERS)),
                merges=pairs,
                continuing_subword_prefix="",
                end_of_word_suffix=suffix,
            )
        )
        if unknown and (token := special["unk"]):
            tokens.model.unk_token = token.content
        return tokens

    return read


def read_word_pieces(files: Files, special: Special) -> Any:
    """Reads ``vocab.txt``."""
    from tokenizers import Tokenizer, models

    _need(files, WORD_PIECES)
    unknown = special["unk"]
    if unknown is None:
        raise CheckpointError(f"{CONFIG}: field 'unk_token': expected a token, found None")
    vocabulary = {token: number for number, token in enumerate(lines(files, WORD_PIECES))}
    return Tokenizer(models.WordPiece(vocabulary, unk_token=unknown.content))


def read_nothing(files: Files, special: Special) -> Any:
    """For families that have ``tokenizer.json`` alone."""
    raise missing(files, LIBRARY)


def clean_up(text: str) -> str:
    """English text without the spaces that tokens leave around punctuation."""
    for mark in _CLEAN:
        text = text.replace(mark, mark.strip() if mark != " ' " else "'")
    return text


def _saved(files: Files) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_str(files[LIBRARY].decode("utf-8"))


def _add(tokens: Any, settings: Settings, special: Special) -> None:
    """Add what the settings name, and mark the family's own special tokens that the vocabulary has.

    Of tokens that were added before, only ``added_tokens_decoder`` changes how they are found.
    """
    from tokenizers import AddedToken

    known = {token.content for token in tokens.get_added_tokens_decoder().values()}
    again = {token.content for token in settings.added.values()}
    tokens.add_tokens(
        [
            AddedToken(
                token.content,
                lstrip=token.lstrip,
                rstrip=token.rstrip,
                single_word=token.single_word,
                normalized=token.normalized,
                special=token.special,
            )
            for token in settings.tokens(special, lambda content: tokens.token_to_id(content) is not None)
            if token.content not in known or token.content in again
        ]
    )


def _need(files: Files, *names: str) -> None:
    for name in names:
        if name not in files:
            raise missing(files, " and ".join(names))


def missing(files: Files, wanted: str) -> CheckpointError:
    """The error that names what a family can be read from."""
    other = "" if wanted == LIBRARY else f"{LIBRARY}, or "
    return CheckpointError(f"expected {other}{wanted}, found {', '.join(files)}")


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors of the library as a CheckpointError that names the file."""
    try:
        yield
    except SensoriumError:
        raise
    except BaseException as error:  # the library raises bare Exception, and panics are not even that
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(f"{name}: not a tokenizer: {str(error)[:200]}") from None
