"""The rules of each family, as pipelines of the `tokenizers` library: how text is cleaned, split and framed.

Each function puts the rules of its family onto a tokenizer that holds the vocabulary. The classes of the reference
do the same whatever ``tokenizer.json`` says, and take from that file only what is not among their rules. ``named``
gives the special tokens by role.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core import CheckpointError
from .files import Fields

Named = Mapping[str, str | None]

_SPACE = "▁"  # SentencePiece's mark of white space
_CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def clip(tokens: Any, named: Named, config: Fields) -> None:
    """CLIP (Radford et al. 2021, arXiv:2103.00020): NFC, one space for white space, lower case, byte-level BPE."""
    from tokenizers import Regex, decoders, normalizers, pre_tokenizers, processors

    tokens.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokens.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokens.decoder = decoders.ByteLevel()
    tokens.post_processor = processors.RobertaProcessing(
        _place(tokens, named, "eos"), _place(tokens, named, "bos"), trim_offsets=False, add_prefix_space=False
    )


def bert(tokens: Any, named: Named, config: Fields) -> None:
    """BERT (Devlin et al. 2018, arXiv:1810.04805): control characters out, accents and case as configured."""
    from tokenizers import decoders, normalizers, pre_tokenizers, processors

    strip = None if config.values.get("strip_accents") is None else config.flag("strip_accents")
    tokens.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.flag("tokenize_chinese_chars", True),
        strip_accents=strip,
        lowercase=config.flag("do_lower_case", True),
    )
    tokens.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokens.decoder = decoders.WordPiece(prefix="##")
    first, last = _place(tokens, named, "cls"), _place(tokens, named, "sep")
    tokens.post_processor = processors.TemplateProcessing(
        single=[f"{first[0]}:0", "$A:0", f"{last[0]}:0"],
        pair=[f"{first[0]}:0", "$A:0", f"{last[0]}:0", "$B:1", f"{last[0]}:1"],
        special_tokens=[first, last],
    )


def gpt2(tokens: Any, named: Named, config: Fields) -> None:
    """GPT-2: byte-level BPE, framed as ``tokenizer.json`` says."""
    from tokenizers import decoders, pre_tokenizers

    tokens.normalizer = None
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=config.flag("add_prefix_space"))
    tokens.decoder = decoders.ByteLevel()


def roberta(tokens: Any, named: Named, config: Fields) -> None:
    """RoBERTa (Liu et al. 2019, arXiv:1907.11692): GPT-2's byte-level BPE between ``cls`` and ``sep``."""
    from tokenizers import processors

    gpt2(tokens, named, config)
    tokens.post_processor = processors.RobertaProcessing(
        _place(tokens, named, "sep"),
        _place(tokens, named, "cls"),
        trim_offsets=config.flag("trim_offsets", True),
        add_prefix_space=config.flag("add_prefix_space"),
    )


def xlm_roberta(tokens: Any, named: Named, config: Fields) -> None:
    """XLM-R (Conneau et al. 2019, arXiv:1911.02116): words, then the unigram model, between ``bos`` and ``eos``.

    Characters are normalised by the table that comes with the vocabulary.
    """
    from tokenizers import decoders, pre_tokenizers, processors

    scheme = "always" if config.flag("add_prefix_space", True) else "never"
    tokens.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(replacement=_SPACE, prepend_scheme=scheme),
        ]
    )
    tokens.decoder = decoders.Metaspace(replacement=_SPACE, prepend_scheme=scheme)
    first, last = _place(tokens, named, "bos"), _place(tokens, named, "eos")
    tokens.post_processor = processors.TemplateProcessing(
        single=[first[0], "$A", last[0]],
        pair=[first[0], "$A", last[0], last[0], "$B", last[0]],
        special_tokens=[first, last],
    )


def gemma(tokens: Any, named: Named, config: Fields) -> None:
    """Gemma (arXiv:2403.08295): BPE with bytes for unknown characters, framed as ``tokenizer.json`` says."""
    from tokenizers import decoders, normalizers, pre_tokenizers

    tokens.normalizer = normalizers.Replace(" ", _SPACE)
    tokens.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous", invert=False)
    tokens.decoder = decoders.Sequence(
        [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )


def siglip2(tokens: Any, named: Named, config: Fields) -> None:
    """SigLIP 2 (Tschannen et al. 2025, arXiv:2502.14786): Gemma's vocabulary on text in lower case."""
    from tokenizers import normalizers

    gemma(tokens, named, config)
    tokens.normalizer = normalizers.Sequence([normalizers.Lowercase(), tokens.normalizer])


def as_saved(tokens: Any, named: Named, config: Fields) -> None:
    """No rules beyond what ``tokenizer.json`` says."""


def _place(tokens: Any, named: Named, role: str) -> tuple[str, int]:
    """The special token of a role, and its number."""
    content = named.get(role)
    number = None if content is None else tokens.token_to_id(content)
    if content is None or number is None:
        raise CheckpointError(
            f"tokenizer_config.json: field '{role}_token': expected a token of the vocabulary, found {content!r}"
        )
    return content, number
