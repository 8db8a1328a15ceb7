"""What differs from family to family, as values, and which family a checkpoint is of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

from ...core import CheckpointError, nearest
from . import generators, pipelines
from .characters import CharacterVocabulary
from .files import CONFIG, LIBRARY, MODEL, Files, fields
from .library import (
    Dress,
    Read,
    open_library,
    read_byte_pairs,
    read_nothing,
    read_word_pieces,
)
from .piece_files import read_byte_pair_pieces, read_t5_pieces, read_xlm_roberta_pieces
from .sentences import SentenceVocabulary
from .settings import Settings, Special, Token


class Engine(Protocol):
    """What encodes and decodes.

    ``files`` are what is saved of it; ``size`` is the highest number and one; ``added`` says of each token that is
    found in a text before anything else whether it is special.

    ``plain`` gives the tokens of a stretch of a longer text: none around it, never cut, special tokens written in
    it taken literally. ``start``: the stretch begins the text, rather than follows an added token. ``split`` cuts a
    text where added tokens are written: its parts, and whether each is such a token.
    """

    files: dict[str, bytes]
    size: int
    added: Mapping[str, bool]

    def id(self, token: str) -> int | None: ...
    def encode(self, text: str) -> list[int]: ...
    def plain(self, text: str, *, start: bool) -> list[int]: ...
    def split(self, text: str) -> Iterator[tuple[str, bool]]: ...
    def pair(self, first: str, second: str) -> tuple[list[int], list[int]]: ...
    def decode(self, numbers: Any) -> str: ...


@dataclass(frozen=True)
class Family:
    """A family: what opens its files, and what holds where they do not say otherwise."""

    open: Callable[[Files, Settings, Special, int | None, bool], Engine]
    special: Mapping[str, str]
    max_tokens: int | None = None
    padding_side: str = "right"


def _library(dress: Dress, read: Read, padding_side: str = "right", /, **special: str) -> Family:
    return Family(partial(open_library, dress=dress, read=read), special, padding_side=padding_side)


def _open_t5(files: Files, settings: Settings, special: Special, limit: int | None, plain: bool) -> Engine:
    """T5's, whose sentinels are special where the files do not list them."""
    count = settings.config.count("extra_ids", 100, 10_000)
    sentinels = tuple(Token(f"<extra_id_{number}>") for number in range(count))
    settings = replace(settings, extra=settings.extra or sentinels)
    read = read_t5_pieces(count)
    return open_library(files, settings, special, limit, plain, dress=generators.t5, read=read)


def _open_code_llama(
    files: Files, settings: Settings, special: Special, limit: int | None, plain: bool
) -> Engine:
    """Code Llama's, whose tokens for a gap are special."""
    gap = tuple(Token(content) for content in ("▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>", "<FILL_ME>"))
    settings = replace(settings, extra=(*settings.extra, *gap))
    read = read_byte_pair_pieces(unknown=True)
    return open_library(files, settings, special, limit, plain, dress=generators.code_llama, read=read)


_BERT = _library(
    pipelines.bert, read_word_pieces, unk="[UNK]", sep="[SEP]", pad="[PAD]", cls="[CLS]", mask="[MASK]"
)
_SENTENCES = {
    "bos": "<s>",
    "eos": "</s>",
    "unk": "<unk>",
    "sep": "</s>",
    "pad": "<pad>",
    "cls": "<s>",
    "mask": "<mask>",
}
_GEMMA = {"bos": "<bos>", "eos": "<eos>", "unk": "<unk>", "pad": "<pad>", "mask": "<mask>"}
_LLAMA = {"bos": "<s>", "eos": "</s>", "unk": "<unk>"}
_END = "<|endoftext|>"
_AS_SAVED = _library(pipelines.as_saved, read_nothing)

#: Families by the class that ``tokenizer_config.json`` names.
FAMILIES: dict[str, Family] = {
    "CLIPTokenizer": _library(
        pipelines.clip,
        read_byte_pairs("</w>", unknown=True),
        bos="<|startoftext|>",
        eos=_END,
        unk=_END,
        pad=_END,
    ),
    "BertTokenizer": _BERT,
    "DistilBertTokenizer": _BERT,
    "ElectraTokenizer": _BERT,
    "GPT2Tokenizer": _library(pipelines.gpt2, read_byte_pairs(), bos=_END, eos=_END, unk=_END),
    "RobertaTokenizer": _library(pipelines.roberta, read_byte_pairs(), **_SENTENCES),
    "XLMRobertaTokenizer": _library(pipelines.xlm_roberta, read_xlm_roberta_pieces, **_SENTENCES),
    "GemmaTokenizer": _library(pipelines.gemma, read_byte_pair_pieces(unknown=True), "left", **_GEMMA),
    "LlamaTokenizer": _library(generators.llama, read_byte_pair_pieces(unknown=False), "left", **_LLAMA),
    "CodeLlamaTokenizer": Family(_open_code_llama, _LLAMA, padding_side="left"),
    "Qwen2Tokenizer": _library(generators.qwen2, read_byte_pairs(), eos=_END, unk=_END, pad=_END),
    "CohereTokenizer": _library(
        generators.cohere,
        read_byte_pairs(),
        "left",
        bos="<BOS_TOKEN>",
        eos="<|END_OF_TURN_TOKEN|>",
        unk="<UNK>",
        sep="<SEP>",
        pad="<PAD>",
        cls="<CLS>",
        mask="<MASK_TOKEN>",
    ),
    "T5Tokenizer": Family(_open_t5, {"eos": "</s>", "unk": "<unk>", "pad": "<pad>"}),
    "Siglip2Tokenizer": _library(pipelines.siglip2, read_nothing, "left", **_GEMMA),
    "SiglipTokenizer": Family(
        SentenceVocabulary, {"eos": "</s>", "unk": "<unk>", "pad": "</s>"}, max_tokens=64
    ),
    "Wav2Vec2CTCTokenizer": Family(
        CharacterVocabulary, {"bos": "<s>", "eos": "</s>", "unk": "<unk>", "pad": "<pad>"}
    ),
    "PreTrainedTokenizerFast": _AS_SAVED,
    "TokenizersBackend": _AS_SAVED,
}

#: The types of models of each class, for checkpoints that do not name one.
_MODELS = {
    "CLIPTokenizer": ("clip", "clip_text_model"),
    "BertTokenizer": ("align", "bert", "blip", "git"),
    "DistilBertTokenizer": ("distilbert",),
    "ElectraTokenizer": ("electra",),
    "GPT2Tokenizer": ("gpt2", "opt", "blip-2", "instructblip"),
    "RobertaTokenizer": ("roberta", "clap"),
    "XLMRobertaTokenizer": ("xlm-roberta",),
    "GemmaTokenizer": ("gemma", "gemma2", "gemma3", "gemma3_text"),
    "LlamaTokenizer": ("idefics",),
    "CodeLlamaTokenizer": ("code_llama",),
    "Qwen2Tokenizer": (
        *("qwen2", "qwen2_moe", "qwen2_vl", "qwen2_5_vl", "qwen3", "qwen3_moe", "qwen3_vl"),
        "internvl",
    ),
    "CohereTokenizer": ("cohere", "cohere2"),
    "T5Tokenizer": ("t5",),
    "SiglipTokenizer": ("siglip", "siglip_text_model"),
    "Siglip2Tokenizer": ("siglip2", "siglip2_text_model"),
    "Wav2Vec2CTCTokenizer": ("wav2vec2", "hubert"),
}
_OF_MODEL = {model: name for name, models in _MODELS.items() for model in models}

#: Models whose checkpoints name a class of other rules than those in their ``tokenizer.json``, which hold.
_AS_SAVED_MODELS = ("glm", "glm4", "llava", "llava_next", "mistral", "phi3", "smolvlm", "vipllava")


def name_family(files: Files) -> str:
    """The key of ``FAMILIES`` for ``files``.

    It is the class that ``tokenizer_config.json`` or ``config.json`` names, else that of the model's type, else
    ``tokenizer.json`` as it is. Some checkpoints name a class whose rules are not theirs: those of SigLIP 2 name
    Gemma's, and mean its lower-case variant; those of LLaVA and others, and those that name LLaMA's class for
    bytes (LLaMA 3), mean ``tokenizer.json`` as it is.
    Raises CheckpointError if the class is unknown or nothing says which it is.
    """
    config, model = fields(files, CONFIG), fields(files, MODEL)
    kind = model.text("model_type")
    named = next((one for one in (config, model) if one.text("tokenizer_class")), None)
    if _OF_MODEL.get(kind or "") == "Siglip2Tokenizer":
        return "Siglip2Tokenizer"
    if LIBRARY in files and kind in _AS_SAVED_MODELS:
        return "TokenizersBackend"
    if named is not None:
        name = str(named.text("tokenizer_class"))
        short = name if name in FAMILIES else name.removesuffix("Fast")
        if short not in FAMILIES:
            hint = nearest(name, FAMILIES)
            raise CheckpointError(
                f"{named.file}: field 'tokenizer_class': expected a known class, found {name!r}{hint}"
            )
        if short == "LlamaTokenizer" and b'"ByteLevel"' in files.get(LIBRARY, b""):
            return "TokenizersBackend"
        return short
    if kind in _OF_MODEL:
        return _OF_MODEL[kind]
    if LIBRARY in files:
        return "PreTrainedTokenizerFast"
    raise CheckpointError(
        f"{CONFIG}: field 'tokenizer_class': expected one of {', '.join(FAMILIES)}, found nothing that names it"
    )
