"""What differs from family to family, as values, and which family a checkpoint is of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from ...core import CheckpointError, nearest
from . import pipelines
from .characters import CharacterVocabulary
from .files import CONFIG, LIBRARY, MODEL, Files, fields
from .library import (
    Dress,
    Read,
    open_library,
    read_byte_pairs,
    read_nothing,
    read_word_pieces,
    read_xlm_roberta_pieces,
)
from .sentences import SentenceVocabulary
from .settings import Settings, Special


class Engine(Protocol):
    """What encodes and decodes. ``files`` are what is saved of it; ``size`` is the highest number and one."""

    files: dict[str, bytes]
    size: int

    def id(self, token: str) -> int | None: ...
    def encode(self, text: str) -> list[int]: ...
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
    "GemmaTokenizer": _library(pipelines.gemma, read_nothing, "left", **_GEMMA),
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

#: The class of a model's type, for checkpoints that do not name one.
_OF_MODEL = {
    "clip": "CLIPTokenizer",
    "clip_text_model": "CLIPTokenizer",
    "align": "BertTokenizer",
    "bert": "BertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "gpt2": "GPT2Tokenizer",
    "roberta": "RobertaTokenizer",
    "clap": "RobertaTokenizer",
    "xlm-roberta": "XLMRobertaTokenizer",
    "siglip": "SiglipTokenizer",
    "siglip_text_model": "SiglipTokenizer",
    "siglip2": "Siglip2Tokenizer",
    "siglip2_text_model": "Siglip2Tokenizer",
    "wav2vec2": "Wav2Vec2CTCTokenizer",
    "hubert": "Wav2Vec2CTCTokenizer",
}


def name_family(files: Files) -> str:
    """The key of ``FAMILIES`` for ``files``.

    It is the class that ``tokenizer_config.json`` or ``config.json`` names, else that of the model's type, else
    ``tokenizer.json`` as it is. Checkpoints of SigLIP 2 name Gemma's class, but mean its lower-case variant.
    Raises CheckpointError if the class is unknown or nothing says which it is.
    """
    config, model = fields(files, CONFIG), fields(files, MODEL)
    kind = model.text("model_type")
    named = next((one for one in (config, model) if one.text("tokenizer_class")), None)
    if _OF_MODEL.get(kind or "") == "Siglip2Tokenizer":
        return "Siglip2Tokenizer"
    if named is not None:
        name = str(named.text("tokenizer_class"))
        short = name if name in FAMILIES else name.removesuffix("Fast")
        if short not in FAMILIES:
            hint = nearest(name, FAMILIES)
            raise CheckpointError(
                f"{named.file}: field 'tokenizer_class': expected a known class, found {name!r}{hint}"
            )
        return short
    if kind in _OF_MODEL:
        return _OF_MODEL[kind]
    if LIBRARY in files:
        return "PreTrainedTokenizerFast"
    raise CheckpointError(
        f"{CONFIG}: field 'tokenizer_class': expected one of {', '.join(FAMILIES)}, found nothing that names it"
    )
