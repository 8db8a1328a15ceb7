"""Text, as the tokens of a public checkpoint's own vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from jaxtyping import Int
from torch import Tensor

from ..core import CapabilityError, CheckpointError, ConfigError, DataError, Modality
from .text import Text
from .vocabularies import Vocabulary, open_vocabulary, read_files
from .vocabularies.characters import CharacterVocabulary


@final
class PretrainedText(Modality):
    """Text as int64 tokens [t], the ones that the tokenizer of a public checkpoint gives for the same string.

    The vocabulary is in the files of a checkpoint's directory, in the layout of the `transformers` package:
    ``tokenizer.json``; ``vocab.json`` and ``merges.txt``; ``vocab.txt``; a SentencePiece model; and the small files
    beside them. They are read by ``load(directory)``, or by ``fit`` from ``checkpoint``, if that is given. The
    rules are those of the class that the files name: CLIP, BERT (and GIT), DistilBERT, ELECTRA, RoBERTa, GPT-2 (and
    OPT), XLM-R, SigLIP, SigLIP 2, Gemma, LLaMA 1 and 2 (and Vicuna, IDEFICS), Code Llama, Qwen 2 and 3 (and InternVL),
    Cohere, T5, wav2vec 2.0 (CTC), or ``PreTrainedTokenizerFast``, which is ``tokenizer.json`` as it is (LLaMA 3,
    GLM-4, LLaVA, SmolVLM).

    Special tokens stand around a text as the family has them, and the text is cut so that all fit into
    ``max_tokens``, by default what the files say. With ``pad_to``, texts are filled up to that many tokens, as
    SigLIP, SigLIP 2 and ALIGN need (64). ``lower`` puts text in lower case before anything else.

    Three differences from the reference are meant. Special tokens written in a text are plain text: no text encodes
    to one, unless ``special_in_text`` is true, as it always is in the reference. And CLIP's first tokenizer
    repaired broken Unicode and HTML entities, where the package `ftfy` was installed; neither the reference of
    today (transformers 5) nor this does. Where a checkpoint of GPT-2's class has other rules in ``tokenizer.json``
    (SmolLM splits digits), these hold, as in transformers 4; transformers 5 drops them.

    SigLIP's vocabulary needs the package `sentencepiece`.
    """

    name: ClassVar[str] = "text"
    extensions: ClassVar[tuple[str, ...]] = Text.extensions
    inline: ClassVar[bool] = True

    def __init__(
        self,
        *,
        checkpoint: str | None = None,
        max_tokens: int | None = None,
        pad_to: int | None = None,
        lower: bool = False,
        special_in_text: bool = False,
        max_characters: int = 1_000_000,
    ) -> None:
        for name, value, least in (("max_tokens", max_tokens, 3), ("pad_to", pad_to, max_tokens or 3)):
            if value is not None and value < least:
                raise ConfigError(f"PretrainedText.{name} must be at least {least}, found {value}")
        self.checkpoint, self.max_tokens, self.pad_to = checkpoint, max_tokens, pad_to
        self.lower, self.special_in_text, self.max_characters = lower, special_in_text, max_characters
        self._plain = Text(max_characters=max_characters)  # reads, checks and shows
        self._files: dict[str, bytes] | None = None
        self._vocabulary: Vocabulary | None = None

    @property
    def opened(self) -> Vocabulary:
        """The vocabulary itself. Raises ConfigError before ``fit`` or ``load``."""
        return self._open()

    @property
    def vocabulary_size(self) -> int:
        """The highest token there is, and one."""
        return self._open().engine.size

    @property
    def pad(self) -> int | None:
        """The token that fills a batch; None, as of those below, if the vocabulary has none."""
        return self._open().special["pad"]

    @property
    def bos(self) -> int | None:
        """The token that begins a text."""
        return self._open().special["bos"]

    @property
    def eos(self) -> int | None:
        """The token that ends a text."""
        return self._open().special["eos"]

    @property
    def mask(self) -> int | None:
        """The token that stands for a masked one."""
        return self._open().special["mask"]

    @property
    def cls(self) -> int | None:
        """The token that stands for the whole text."""
        return self._open().special["cls"]

    @property
    def sep(self) -> int | None:
        """The token that ends each text of a pair."""
        return self._open().special["sep"]

    @property
    def unk(self) -> int | None:
        """The token that stands for what the vocabulary lacks."""
        return self._open().special["unk"]

    @property
    def draws(self) -> bool:
        """Whether training augments."""
        return False

    def read(self, source: Any) -> str:
        """A string as it is; the content of a UTF-8 file for a ``Path`` or bytes. Raises DataError."""
        return self._plain.read(source)

    def check(self, raw: str) -> None:
        """Raise DataError for blank text, more than ``max_characters``, and half characters (surrogates)."""
        self._plain.check(raw)

    def prepare(self, raw: str, generator: torch.Generator | None = None) -> Int[Tensor, "t"]:
        """Tokens, int64 [t]. Raises ConfigError before ``fit`` or ``load``."""
        vocabulary = self._open()
        found = vocabulary.engine.encode(self._lowered(raw))
        if self.pad_to is not None:
            fill = [self._fill(vocabulary)] * (self.pad_to - len(found))
            found = [*fill, *found] if vocabulary.pads_left else [*found, *fill]
        return torch.tensor(found, dtype=torch.long)

    def pair(self, first: str, second: str) -> tuple[Int[Tensor, "t"], Int[Tensor, "t"]]:
        """Two texts in one, such as ``[CLS] first [SEP] second [SEP]``: tokens, and the type of each (0 or 1).

        The longer text is cut first. Raises CapabilityError for families whose models read no pairs.
        """
        tokens, types = self._open().engine.pair(self._lowered(first), self._lowered(second))
        return torch.tensor(tokens, dtype=torch.long), torch.tensor(types, dtype=torch.long)

    def decode(self, ids: Sequence[int] | Int[Tensor, "t"]) -> str:
        """The text of tokens, special ones left out. Raises DataError."""
        return self._open().engine.decode(self._known(ids))

    def decode_ctc(self, frames: Sequence[int] | Int[Tensor, "t"]) -> str:
        """The text of the best token of each frame: repeats count once, blanks (``pad``) not at all.

        Raises CapabilityError if the vocabulary is not for CTC, DataError for unknown tokens.
        """
        engine = self._open().engine
        if not isinstance(engine, CharacterVocabulary):
            raise CapabilityError(
                "this vocabulary is not for CTC: its checkpoint is not one that transcribes"
            )
        return engine.decode_frames(self._known(frames))

    def blank(self) -> Int[Tensor, "t"]:
        """One token, or as many as texts are filled up to."""
        return torch.zeros(self.pad_to or 1, dtype=torch.long)

    def size(self, raw: str) -> tuple[float, str]:
        """The number of characters."""
        return self._plain.size(raw)

    def show(self, raw: str) -> str:
        """A paragraph."""
        return self._plain.show(raw)

    def fit(self, raws: Iterable[str]) -> None:
        """Nothing is learnt; ``checkpoint`` is read. Raises ConfigError if there is none and nothing was loaded."""
        self._open()

    def save(self, directory: Path) -> None:
        """Write the files that ``load`` and the reference read: those of the checkpoint, with the class named."""
        for name, content in self._open().files.items():
            file = directory / name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)

    def load(self, directory: Path) -> None:
        """Read a checkpoint's directory. Raises CheckpointError naming the file and the field that is wrong."""
        self._use(read_files(directory), f"{directory}: ")

    def use(self, files: Mapping[str, bytes]) -> None:
        """Take the vocabulary in the content of files, by name, instead of a directory's. Raises CheckpointError."""
        self._use(dict(files), "")

    def __getstate__(self) -> dict[str, Any]:  # an open vocabulary cannot be sent to other processes
        return self.__dict__ | {"_vocabulary": None}

    def _open(self) -> Vocabulary:
        if self._vocabulary is None:
            if self._files is not None:
                self._use(self._files, "")
            elif self.checkpoint is not None:
                self.load(Path(self.checkpoint))
        if self._vocabulary is None:
            raise ConfigError(
                "there is no text vocabulary yet: call load(directory), or give checkpoint=DIRECTORY"
            )
        return self._vocabulary

    def _use(self, files: dict[str, bytes], place: str) -> None:
        try:
            opened = open_vocabulary(
                files, max_tokens=self.max_tokens, pad_to=self.pad_to, plain=not self.special_in_text
            )
            if self.pad_to is not None:
                self._fill(opened)
        except (CheckpointError, CapabilityError) as error:
            raise type(error)(f"{place}{error}") from None
        self._vocabulary, self._files = opened, dict(opened.files)

    def _fill(self, vocabulary: Vocabulary) -> int:
        pad = vocabulary.special["pad"]
        if pad is None:
            raise ConfigError("PretrainedText.pad_to needs a vocabulary with a pad token, found one without")
        return pad

    def _lowered(self, text: str) -> str:
        return text.lower() if self.lower else text

    def _known(self, ids: Sequence[int] | Int[Tensor, "t"]) -> list[int]:
        found = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        for token in found:
            if not 0 <= token < self.vocabulary_size:
                raise DataError(f"expected tokens from 0 to {self.vocabulary_size - 1}, found {token}")
        return found
