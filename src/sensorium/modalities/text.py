"""Text, as the tokens of a byte-level BPE vocabulary learnt from the training data."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import torch
from jaxtyping import Int
from torch import Tensor

from ..core import CheckpointError, ConfigError, DataError, Modality
from . import html
from .files import read_bytes

_PAD, _BOS, _EOS, _MASK = SPECIAL = ("<pad>", "<bos>", "<eos>", "<mask>")
_SMALLEST = 256 + len(SPECIAL)  # every byte has a token, so that no text is unknown


@final
class Text(Modality):
    """Text as int64 tokens ``[bos, ..., eos]``, at most ``max_tokens`` (the end is cut off, ``eos`` stays).

    ``fit`` learns a byte-level BPE vocabulary of up to ``vocabulary`` tokens (Sennrich et al. 2016,
    arXiv:1508.07909), of which the first are ``<pad>``, ``<bos>``, ``<eos>``, ``<mask>``. With ``tokenizer``,
    the path of a ``tokenizer.json``, that vocabulary is used instead and any of the four it lacks are added.
    Special tokens written in a text are plain text: no text encodes to one.

    ``decode`` returns the text that was encoded, exactly, except that it is in Unicode form NFC, without
    white space at its ends, in lower case if ``lower``, and without what was cut off.
    """

    name: ClassVar[str] = "text"
    extensions: ClassVar[tuple[str, ...]] = (".txt",)
    inline: ClassVar[bool] = True

    def __init__(
        self,
        *,
        vocabulary: int = 2048,
        max_tokens: int = 128,
        tokenizer: str | None = None,
        lower: bool = False,
        max_characters: int = 1_000_000,
    ) -> None:
        if vocabulary < _SMALLEST:
            raise ConfigError(f"Text.vocabulary must be at least {_SMALLEST} (all bytes), found {vocabulary}")
        if max_tokens < 3:
            raise ConfigError(f"Text.max_tokens must be at least 3 (bos, a token, eos), found {max_tokens}")
        self.vocabulary, self.max_tokens, self.lower = vocabulary, max_tokens, lower
        self.tokenizer, self.max_characters = tokenizer, max_characters
        self._tokens: Any = None
        self._special: tuple[int, ...] = ()

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens that there are, which may be less than ``vocabulary``."""
        return self._fitted().get_vocab_size()

    @property
    def pad(self) -> int:
        """The token that fills a batch."""
        return self._id(0)

    @property
    def bos(self) -> int:
        """The token that begins a text."""
        return self._id(1)

    @property
    def eos(self) -> int:
        """The token that ends a text."""
        return self._id(2)

    @property
    def mask(self) -> int:
        """The token that stands for a masked one."""
        return self._id(3)

    @property
    def draws(self) -> bool:
        """Whether training augments."""
        return False

    def read(self, source: Any) -> str:
        """A string as it is; the content of a UTF-8 file for a ``Path`` or bytes. Raises DataError."""
        if isinstance(source, str):
            return source
        content = read_bytes(source, 4 * self.max_characters)
        try:
            return content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(
                f"expected UTF-8 text, found the byte {content[error.start]:#04x} at position {error.start:,}"
            ) from None

    def check(self, raw: str) -> None:
        """Raise DataError for blank text, more than ``max_characters``, and half characters (surrogates)."""
        if not isinstance(raw, str):
            raise DataError(f"expected text, found {type(raw).__name__}")
        if not raw.strip():
            raise DataError("the text is empty")
        if len(raw) > self.max_characters:
            raise DataError(f"the text has {len(raw):,} characters, the limit is {self.max_characters:,}")
        try:
            raw.encode()
        except UnicodeEncodeError as error:
            raise DataError(
                f"character {error.start + 1:,} is not valid Unicode (a lone surrogate)"
            ) from None

    def prepare(self, raw: str, generator: torch.Generator | None = None) -> Int[Tensor, "t"]:
        """Tokens, int64 [t]. Raises ConfigError before ``fit`` or ``load``."""
        ids = self.encode(raw)[: self.max_tokens - 2]
        return torch.tensor([self.bos, *ids, self.eos])

    def encode(self, text: str) -> list[int]:
        """All tokens of ``text``, without ``bos`` and ``eos``."""
        return self._fitted().encode(self._normal(text), add_special_tokens=False).ids

    def decode(self, ids: Sequence[int] | Int[Tensor, "t"]) -> str:
        """The text of tokens up to the first ``eos``, special tokens left out. Raises DataError."""
        tokens = self._fitted()
        found = ids.tolist() if isinstance(ids, Tensor) else list(ids)
        if self.eos in found:
            found = found[: found.index(self.eos)]
        size = self.vocabulary_size
        for token in found:
            if not 0 <= token < size:
                raise DataError(f"expected tokens from 0 to {size - 1}, found {token}")
        kept = [token for token in found if token not in self._special]
        return tokens.decode(kept, skip_special_tokens=True).removeprefix(" ")

    def blank(self) -> Int[Tensor, "1"]:
        """One token."""
        return torch.zeros(1, dtype=torch.long)

    def size(self, raw: str) -> tuple[float, str]:
        """The number of characters."""
        return float(len(raw)), "characters"

    def show(self, raw: str) -> str:
        """A paragraph."""
        return f'<p style="white-space:pre-wrap;margin:0">{html.escape(raw)}</p>'

    def fit(self, raws: Iterable[str]) -> None:
        """Learn the vocabulary, or take it from ``tokenizer``. The same texts give the same vocabulary.

        Raises DataError if there is no text, ConfigError if ``tokenizer`` cannot be read.
        """
        if self.tokenizer is not None:
            self._fitted()
            return
        count = 0

        def texts() -> Iterable[str]:
            nonlocal count
            for raw in raws:
                count += 1
                yield self._normal(raw)

        tokens, trainer = _untrained(self.vocabulary)
        tokens.train_from_iterator(texts(), trainer)
        if count == 0:
            raise DataError("there is no text to learn a vocabulary from")
        self._use(tokens)

    def save(self, directory: Path) -> None:
        """Write ``tokenizer.json``, in the format of the `tokenizers` library."""
        (directory / "tokenizer.json").write_text(self._fitted().to_str(pretty=True), encoding="utf-8")

    def publish(self, directory: Path) -> None:
        """Write ``tokenizer.json`` and ``tokenizer_config.json``, with which `transformers` and ``PretrainedText`` give
        the same tokens (with ``lower``, all but those of a Greek sigma that ends a word). Where others look for the
        tokens of a class and of a separator, they find ``bos`` and ``eos``.
        """
        from tokenizers import Tokenizer, normalizers, processors

        tokens = Tokenizer.from_str(self._fitted().to_str())
        own = [normalizers.NFC(), normalizers.Strip(), *([normalizers.Lowercase()] if self.lower else [])]
        tokens.normalizer = normalizers.Sequence([*own, *([tokens.normalizer] if tokens.normalizer else [])])
        tokens.post_processor = processors.TemplateProcessing(
            single=f"{_BOS} $A {_EOS}",
            pair=f"{_BOS} $A {_EOS} $B:1 {_EOS}:1",
            special_tokens=[(name, tokens.token_to_id(name)) for name in (_BOS, _EOS)],
        )
        named = {"pad": _PAD, "bos": _BOS, "eos": _EOS, "mask": _MASK, "cls": _BOS, "sep": _EOS}
        settings = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.max_tokens,
            **{f"{role}_token": token for role, token in named.items()},
        }
        (directory / "tokenizer.json").write_text(tokens.to_str(pretty=True), encoding="utf-8")
        (directory / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")

    def load(self, directory: Path) -> None:
        """Read ``tokenizer.json``. Raises CheckpointError if it is missing or damaged."""
        file = directory / "tokenizer.json"
        try:
            self._use(_from_file(file))
        except DataError as error:
            raise CheckpointError(f"{file}: {error.reason}") from None

    def __getstate__(
        self,
    ) -> dict[str, Any]:  # how literally special tokens are taken is not part of the JSON
        return self.__dict__ | {"_tokens": self._tokens and self._tokens.to_str()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._tokens is not None:
            from tokenizers import Tokenizer

            self._use(Tokenizer.from_str(self._tokens))

    def _normal(self, text: str) -> str:
        normal = unicodedata.normalize("NFC", text).strip()
        return normal.lower() if self.lower else normal

    def _id(self, place: int) -> int:
        self._fitted()
        return self._special[place]

    def _fitted(self) -> Any:
        if self._tokens is None and self.tokenizer is not None:
            try:
                self._use(_from_file(Path(self.tokenizer)))
            except DataError as error:
                raise ConfigError(f"Text.tokenizer: {error.reason}") from None
        if self._tokens is None:
            raise ConfigError(
                "the text vocabulary is not learnt yet: "
                "call fit(texts), load(directory), or give tokenizer=FILE"
            )
        return self._tokens

    def _use(self, tokens: Any) -> None:
        from tokenizers import AddedToken

        missing = [name for name in SPECIAL if tokens.token_to_id(name) is None]
        tokens.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in missing])
        tokens.encode_special_tokens = True  # `<eos>` typed by a user is five characters
        tokens.no_truncation()
        tokens.no_padding()
        self._tokens = tokens
        self._special = tuple(tokens.token_to_id(name) for name in SPECIAL)


def _untrained(vocabulary: int) -> tuple[Any, Any]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokens = Tokenizer(models.BPE())
    # The space added in front makes a word the same token at the beginning of a text and inside it.
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokens.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    return tokens, trainer


def _from_file(file: Path) -> Any:
    from tokenizers import Tokenizer

    content = read_bytes(file, 1 << 30)
    try:
        return Tokenizer.from_str(content.decode("utf-8"))
    except Exception as error:  # noqa: BLE001  (the library raises bare Exception)
        raise DataError(f"not a tokenizer.json: {str(error)[:200]}") from None
