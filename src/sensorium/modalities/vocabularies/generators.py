"""The rules of language models' families, as ``pipelines`` has those of encoders."""

from __future__ import annotations

import base64
import json
from typing import Any

from ...core import CheckpointError
from .files import LIBRARY, Fields
from .pipelines import SPACE, Named, frame, place

_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def llama(tokens: Any, named: Named, config: Fields) -> None:
    """LLaMA 1 and 2 (Touvron et al. 2023, arXiv:2302.13971): BPE of SentencePiece, bytes for unknown characters.

    A space stands before a text; with ``legacy``, before all that follows a special token too.
    """
    spaced = config.flag("add_prefix_space", True)
    later = "always" if config.flag("legacy") else "first"
    _sentence_pairs(tokens, later if spaced else "never", strip=spaced)
    tokens.model.unk_token = None
    frame(tokens, named, config)


def code_llama(tokens: Any, named: Named, config: Fields) -> None:
    """Code Llama (Rozière et al. 2023, arXiv:2308.12950): LLaMA's, always after ``bos`` unless the files deny it."""
    spaced = config.flag("add_prefix_space", True)
    _sentence_pairs(tokens, "first" if spaced else "never", strip=True)
    tokens.post_processor = None
    frame(tokens, named, config, first=True)


def qwen2(tokens: Any, named: Named, config: Fields) -> None:
    """Qwen 2, 2.5 and 3 (Yang et al. 2024, arXiv:2407.10671): NFC, byte-level BPE of words and single digits."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers

    if tokens.pre_tokenizer is None:
        tokens.normalizer = normalizers.NFC()
        tokens.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=config.flag("add_prefix_space"), use_regex=False),
            ]
        )
        tokens.decoder = decoders.ByteLevel()
    frame(tokens, named, config)


def cohere(tokens: Any, named: Named, config: Fields) -> None:
    """Cohere's Command R and Aya: NFC, byte-level BPE of words and single digits."""
    from tokenizers import decoders, normalizers, pre_tokenizers

    if tokens.pre_tokenizer is None:
        tokens.normalizer = normalizers.NFC()
        tokens.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=config.flag("add_prefix_space")),
            ]
        )
        tokens.decoder = decoders.ByteLevel()
    frame(tokens, named, config)


def t5(tokens: Any, named: Named, config: Fields) -> None:
    """T5 (Raffel et al. 2019, arXiv:1910.10683): words, then the unigram model, then ``eos``.

    Characters are normalised by the table that comes with the vocabulary.
    """
    from tokenizers import decoders, pre_tokenizers, processors

    tokens.normalizer = _characters(tokens.normalizer)
    tokens.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always"),
        ]
    )
    tokens.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme="always")
    last = place(tokens, named, "eos")
    tokens.post_processor = processors.TemplateProcessing(
        single=["$A", last[0]], pair=["$A", last[0], "$B", last[0]], special_tokens=[last]
    )


def _sentence_pairs(tokens: Any, scheme: str, *, strip: bool) -> None:
    from tokenizers import decoders, pre_tokenizers

    tokens.normalizer = None
    tokens.pre_tokenizer = pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=scheme, split=False)
    parts = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokens.decoder = decoders.Sequence([*parts, decoders.Strip(content=" ", left=1)] if strip else parts)
    tokens.model.fuse_unk = tokens.model.byte_fallback = True


def _characters(rules: Any) -> Any:
    """The table of characters alone, of a normalizer that may do more."""
    from tokenizers import normalizers

    if rules is None:
        return None
    state = json.loads(rules.__getstate__())
    for one in state["normalizers"] if state["type"] == "Sequence" else [state]:
        if one["type"] == "Precompiled" and one.get("precompiled_charsmap"):
            try:
                return normalizers.Precompiled(base64.b64decode(one["precompiled_charsmap"]))
            except ValueError:
                raise CheckpointError(f"{LIBRARY}: field 'precompiled_charsmap': expected base64") from None
    return None
