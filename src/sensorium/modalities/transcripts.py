"""What is said in recordings, as characters, learnt from the training data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from jaxtyping import Int
from torch import Tensor

from ..core import CheckpointError, ConfigError, DataError, Modality
from .text import Text
from .vocabularies import Vocabulary, open_vocabulary, read_files
from .vocabularies.characters import CharacterVocabulary
from .vocabularies.files import CHARACTERS, CONFIG

_SPECIAL = ("<pad>", "<s>", "</s>", "<unk>", "|")  # the first is the blank, the last the space between words


@final
class Transcripts(Modality):
    """Text for CTC as int64 tokens [t], one per character; ``pad``, which is 0, is the blank.

    ``fit`` learns the most frequent characters, so that there are up to ``vocabulary`` tokens; others are unknown.
    Unless ``case`` matters, all is in lower case. Saved in the layout of wav2vec 2.0, which ``PretrainedText`` and
    transformers read.
    """

    name: ClassVar[str] = "text"
    extensions: ClassVar[tuple[str, ...]] = Text.extensions
    inline: ClassVar[bool] = True

    def __init__(self, *, vocabulary: int = 32, case: bool = False, max_characters: int = 1_000_000) -> None:
        if vocabulary <= len(_SPECIAL):
            raise ConfigError(
                f"Transcripts.vocabulary must be more than the {len(_SPECIAL)} special tokens, found {vocabulary}"
            )
        self.vocabulary, self.case = vocabulary, case
        self._plain = Text(max_characters=max_characters)  # reads, checks and shows
        self._opened: Vocabulary | None = None

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens that there are, which may be less than ``vocabulary``."""
        return self._engine().size

    @property
    def pad(self) -> int:
        """The blank."""
        return 0

    @property
    def draws(self) -> bool:
        """Whether training augments."""
        return False

    def read(self, source: Any) -> str:
        """A string as it is; the content of a UTF-8 file for a ``Path`` or bytes. Raises DataError."""
        return self._plain.read(source)

    def check(self, raw: str) -> None:
        """Raise DataError for blank or too long text, and half characters (surrogates)."""
        self._plain.check(raw)

    def prepare(self, raw: str, generator: torch.Generator | None = None) -> Int[Tensor, "t"]:
        """Tokens, int64 [t]. Raises ConfigError before ``fit`` or ``load``."""
        return torch.tensor(self._engine().encode(" ".join(raw.split())), dtype=torch.long)

    def decode(self, ids: Sequence[int] | Int[Tensor, "t"]) -> str:
        """The text of tokens, special ones left out."""
        return self._engine().decode(_listed(ids))

    def decode_ctc(self, frames: Sequence[int] | Int[Tensor, "t"]) -> str:
        """The text of the best token of each frame: repeats count once, blanks not at all."""
        return self._engine().decode_frames(_listed(frames))

    def blank(self) -> Int[Tensor, "1"]:
        """One token."""
        return torch.zeros(1, dtype=torch.long)

    def size(self, raw: str) -> tuple[float, str]:
        """The number of characters."""
        return self._plain.size(raw)

    def show(self, raw: str) -> str:
        """A paragraph."""
        return self._plain.show(raw)

    def fit(self, raws: Iterable[str]) -> None:
        """Learn the characters. Raises DataError if there are none."""
        found: Counter[str] = Counter()
        for raw in raws:
            found.update(raw if self.case else raw.upper())
        for character in [one for one in found if one.isspace() or one in _SPECIAL]:
            del found[character]
        if not found:
            raise DataError("there is no text to learn characters from")
        kept = sorted(found, key=lambda one: (-found[one], one))[: self.vocabulary - len(_SPECIAL)]
        table = {token: number for number, token in enumerate([*_SPECIAL, *kept])}
        pad, start, end, unknown, space = _SPECIAL
        config = {
            "tokenizer_class": "Wav2Vec2CTCTokenizer",
            "pad_token": pad,
            "bos_token": start,
            "eos_token": end,
            "unk_token": unknown,
            "word_delimiter_token": space,
            "do_lower_case": not self.case,
        }
        files = {CHARACTERS: table, CONFIG: config}
        self._use({name: json.dumps(part, ensure_ascii=False).encode() for name, part in files.items()})

    def save(self, directory: Path) -> None:
        """Write ``vocab.json`` and ``tokenizer_config.json``."""
        self._engine()
        for name, content in self._opened.files.items() if self._opened is not None else ():
            (directory / name).write_bytes(content)

    def load(self, directory: Path) -> None:
        """Read what ``save`` wrote. Raises CheckpointError if it is missing or damaged."""
        try:
            self._use(read_files(directory))
        except CheckpointError as error:
            raise CheckpointError(f"{directory}: {error}") from None

    def _use(self, files: dict[str, bytes]) -> None:
        self._opened = open_vocabulary(files, max_tokens=None, pad_to=None, plain=True)

    def _engine(self) -> CharacterVocabulary:
        if self._opened is None:
            raise ConfigError("the characters are not learnt yet: call fit(texts) or load(directory)")
        engine = self._opened.engine
        if not isinstance(engine, CharacterVocabulary):
            raise ConfigError("expected a vocabulary of characters, for CTC")
        return engine


def _listed(ids: Sequence[int] | Int[Tensor, "t"]) -> list[int]:
    return ids.tolist() if isinstance(ids, Tensor) else list(ids)
