"""SigLIP's vocabulary (Zhai et al. 2023, arXiv:2303.15343): SentencePiece on text without punctuation."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

from ...core import CapabilityError, CheckpointError
from .added import AddedTokens
from .files import SENTENCE_PIECES, Files
from .model_file import read_piece_model
from .settings import Settings, Special, cut

_SPACE = "▁"
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@final
class SentenceVocabulary:
    """Encodes by SentencePiece itself, as the reference does: scores in single precision decide between equals."""

    def __init__(
        self,
        files: Files,
        settings: Settings,
        special: Special,
        limit: int | None,
        plain: bool,
    ) -> None:
        self.files = dict(files)
        self._pieces = _open(files)
        self._limit, self._lower = limit, settings.config.flag("do_lower_case", True)
        self._left = settings.cuts_left
        base = self._pieces.get_piece_size()
        found = settings.tokens(special, lambda content: self._piece(content) is not None)
        self._added: dict[str, int] = {}
        for token in found:
            piece = self._piece(token.content)
            new = base + sum(number >= base for number in self._added.values())
            self._added[token.content] = new if piece is None else piece
        self._special = {self._added[token.content] for token in found if token.special}
        self.added: Mapping[str, bool] = {token.content: token.special for token in found}
        self._whole = AddedTokens(found)
        self._literal = AddedTokens(token for token in found if not token.special)
        self._split = self._literal if plain else self._whole
        self.size = max(base, *(number + 1 for number in self._added.values()))
        self._unknown = special["unk"].content if special["unk"] else "<unk>"
        self._skip = len(self._pieces.encode(self._unknown))
        end = special["eos"]
        last = self._added.get(end.content) if end else None
        if last is None:
            raise CheckpointError(
                "tokenizer_config.json: field 'eos_token': expected a token of the vocabulary"
            )
        self._last = last

    def id(self, token: str) -> int | None:
        """The number of a token."""
        return self._added.get(token, self._piece(token))

    def encode(self, text: str) -> list[int]:
        """Tokens and ``eos``."""
        found: list[int] = []
        for place, (part, added) in enumerate(self._split.split(_SPACE + text.replace(_SPACE, " "))):
            if not added:
                found += self._encode(part)
                continue
            if place == 1 and found == [self._pieces.piece_to_id(_SPACE)]:
                found.clear()  # the mark of white space before a text that begins with an added token
            found.append(self._added[part])
        found = cut(found, self._limit and self._limit - 1, self._left)
        return found if found and found[-1] == self._last else [*found, self._last]

    def plain(self, text: str, *, start: bool) -> list[int]:
        """Tokens of a stretch of a longer text, special ones in it taken literally."""
        found: list[int] = []
        for part, added in self._literal.split(text):
            found += [self._added[part]] if added else self._encode(part)
        return found

    def split(self, text: str) -> Iterator[tuple[str, bool]]:
        """The parts of a text, and whether each is an added token."""
        return self._whole.split(text)

    def pair(self, first: str, second: str) -> tuple[list[int], list[int]]:
        """No model of this family reads pairs: raises CapabilityError."""
        raise CapabilityError("this vocabulary is for single texts, and not for pairs")

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of tokens, without special ones."""
        contents = {number: content for content, number in self._added.items()}
        kept = [number for number in numbers if number not in self._special]
        pieces = [
            contents[number] if number in contents else self._pieces.id_to_piece(number) for number in kept
        ]
        return self._pieces.decode(pieces).strip()

    def _encode(self, text: str) -> list[int]:
        lowered = text.lower() if self._lower else text
        bare = re.sub(r"\s+", " ", lowered.translate(_PUNCTUATION)).strip()
        # Behind the unknown token, so that SentencePiece does not take away the mark of white space at the start.
        return self._pieces.encode(self._unknown + bare)[self._skip :]

    def _piece(self, token: str) -> int | None:
        number = self._pieces.piece_to_id(token)
        return number if self._pieces.id_to_piece(number) == token else None


def _open(files: Files) -> Any:
    name = next((name for name in SENTENCE_PIECES if name in files), None)
    if name is None:
        raise CheckpointError(f"expected {SENTENCE_PIECES[1]}, found {', '.join(files)}")
    read_piece_model(name, files[name])  # a damaged file is an error in Python, not in C++
    try:
        from sentencepiece import SentencePieceProcessor
    except ImportError:
        raise CapabilityError(f"{name} needs SentencePiece: pip install sensorium[sentencepiece]") from None
    try:
        return SentencePieceProcessor(model_proto=files[name])
    except RuntimeError as error:
        raise CheckpointError(f"{name}: not a SentencePiece model: {str(error)[:200]}") from None
