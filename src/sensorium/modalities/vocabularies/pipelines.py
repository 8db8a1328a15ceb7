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

SPACE = "▁"  # SentencePiece's mark of white space
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
        place(tokens, named, "eos"), place(tokens, named, "bos"), trim_offsets=False, add_prefix_space=False
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
    first, last = place(tokens, named, "cls"), place(tokens, named, "sep")
    tokens.post_processor = processors.TemplateProcessing(
        single=[f"{first[0]}:0", "$A:0", f"{last[0]}:0"],
        pair=[f"{first[0]}:0", "$A:0", f"{last[0]}:0", "$B:1", f"{last[0]}:1"],
        special_tokens=[first, last],
    )


def gpt2(tokens: Any, named: Named, config: Fields) -> None:
    """GPT-2: byte-level BPE. Other rules that ``tokenizer.json`` has come first."""
    _byte_level(tokens, config)
    frame(tokens, named, config)


def roberta(tokens: Any, named: Named, config: Fields) -> None:
    """RoBERTa (Liu et al. 2019, arXiv:1907.11692): GPT-2's byte-level BPE between ``cls`` and ``sep``."""
    from tokenizers import processors

    _byte_level(tokens, config)
    tokens.post_processor = processors.RobertaProcessing(
        place(tokens, named, "sep"),
        place(tokens, named, "cls"),
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
            pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme=scheme),
        ]
    )
    tokens.decoder = decoders.Metaspace(replacement=SPACE, prepend_scheme=scheme)
    first, last = place(tokens, named, "bos"), place(tokens, named, "eos")
    tokens.post_processor = processors.TemplateProcessing(
        single=[first[0], "$A", last[0]],
        pair=[first[0], "$A", last[0], last[0], "$B", last[0]],
        special_tokens=[first, last],
    )


def gemma(tokens: Any, named: Named, config: Fields) -> None:
    """Gemma (arXiv:2403.08295): BPE with bytes for unknown characters."""
    from tokenizers import decoders, normalizers, pre_tokenizers

    tokens.normalizer = normalizers.Replace(" ", SPACE)
    tokens.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous", invert=False)
    tokens.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    frame(tokens, named, config)


def siglip2(tokens: Any, named: Named, config: Fields) -> None:
    """SigLIP 2 (Tschannen et al. 2025, arXiv:2502.14786): Gemma's vocabulary on text in lower case."""
    from tokenizers import normalizers

    gemma(tokens, named, config)
    tokens.normalizer = normalizers.Sequence([normalizers.Lowercase(), tokens.normalizer])


def frame(tokens: Any, named: Named, config: Fields, *, first: bool = False) -> None:
    """Put ``bos`` before a text and ``eos`` behind it as configured, where ``tokenizer.json`` says nothing of it.

    ``first``: whether ``bos`` stands there if that is not configured.
    """
    from tokenizers import processors

    if tokens.post_processor is not None:
        return
    asked = {"bos": config.flag("add_bos_token", first), "eos": config.flag("add_eos_token")}
    found = {role: place(tokens, named, role) for role, wanted in asked.items() if wanted and role in named}
    before, after = ([found[role][0]] if role in found else [] for role in ("bos", "eos"))
    single = [*(f"{one}:0" for one in before), "$A:0", *(f"{one}:0" for one in after)]
    second = [*(f"{one}:1" for one in before), "$B:1", *(f"{one}:1" for one in after)]
    tokens.post_processor = processors.TemplateProcessing(
        single=single, pair=[*single, *second], special_tokens=list(dict.fromkeys(found.values()))
    )


def as_saved(tokens: Any, named: Named, config: Fields) -> None:
    """No rules beyond what ``tokenizer.json`` says."""


def _byte_level(tokens: Any, config: Fields) -> None:
    from tokenizers import decoders, pre_tokenizers

    if tokens.pre_tokenizer is not None and not isinstance(tokens.pre_tokenizer, pre_tokenizers.ByteLevel):
        return  # the reference drops such rules, and gives tokens that the model was not trained on
    tokens.normalizer = None
    tokens.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=config.flag("add_prefix_space"))
    tokens.decoder = decoders.ByteLevel()


def place(tokens: Any, named: Named, role: str) -> tuple[str, int]:
    """The special token of a role, and its number."""
    content = named.get(role)
    number = None if content is None else tokens.token_to_id(content)
    if content is None or number is None:
        raise CheckpointError(
            f"tokenizer_config.json: field '{role}_token': expected a token of the vocabulary, found {content!r}"
        )
    return content, number
